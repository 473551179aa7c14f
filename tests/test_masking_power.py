"""The power of the masking checks: where nothing could have failed, the verdict is "no power" and not "pass"."""

import dataclasses
import json
from functools import cache

import masked_nets
import matplotlib
import pytest
from scipy.stats import binom

from deepdefense import masking
from deepdefense.masking.check import FEWEST, LEVEL, LITTLE, NEVER, Check, Rule, exceeds, judge
from deepdefense.masking.nine_checks import check_warnings
from deepdefense.storage import files, paths
from replication import networks
from replication.chapters import checked, masking_checks
from replication.chapters import masking as masking_chapter

matplotlib.use("Agg")
LITTLE_WORK = masking.Settings(steps=8, draws=20, queries=20, readouts=10, targets=1, restarts=1)


@cache
def plain_report(n, eps, **options):
    test = masked_nets.digits().test
    model = masked_nets.plain()
    right = (model(test.images()).argmax(1) == test.y).nonzero().flatten()[:n]
    substitutes = {"itself": model}
    return masking.report(
        model, test.images()[right], test.y[right], eps=eps, substitutes=substitutes, warnings=[], settings=LITTLE_WORK, **options
    )


# --- the statistics -------------------------------------------------------------------------------------------------------


def tail(count, n, share):
    return binom.sf(count - 1, n, share)


@pytest.mark.parametrize("n", [1, 2, 7, 30, 100, 167])
@pytest.mark.parametrize("allowed", [NEVER, LITTLE])
def test_the_smallest_effect_is_the_first_count_that_fails(n, allowed):
    rule = Rule("any", 0, n, n, allowed)
    failing = [count for count in range(1, n + 1) if exceeds(count, n, allowed)]
    assert rule.fails_from == (failing[0] if failing else None)
    assert rule.blind == (not failing)
    for could in range(n + 1):
        assert Rule("any", 0, could, n, allowed).blind == (not any(exceeds(count, n, allowed) for count in range(could + 1)))


def test_one_image_fails_no_rule_and_thirty_see_a_fifth_or_a_third():
    assert Rule("any", 1, 1, 1, NEVER).fails_from is None and Rule("any", 1, 1, 1, LITTLE).fails_from is None

    def sees(n, allowed, share):
        return tail(Rule("any", 0, n, n, allowed).fails_from, n, share) >= 0.95

    assert FEWEST == 30 and LEVEL == 0.01
    assert all(sees(n, NEVER, 1 / 5) for n in range(FEWEST, 120)) and not sees(FEWEST - 1, NEVER, 1 / 5)
    assert all(sees(n, LITTLE, 1 / 3) for n in range(FEWEST, 120))


def test_a_verdict_needs_images_and_a_rule_that_could_fail():
    seeing, blind = Rule("seen", 0, 100, 100, NEVER), Rule("unseen", 0, 4, 100, NEVER)
    assert judge([], "Fine.", [seeing], 100) == ("pass", "Fine.")
    assert judge([], "Fine.", [seeing], 29)[0] == "no power"
    assert judge([], "Fine.", [blind], 100) == ("no power", "It could not have failed: unseen (4 of 100 could count, 5 would fail).")
    verdict, reason = judge([], "Fine.", [seeing, blind], 100)
    assert verdict == "pass" and reason.startswith("Fine. Without power: unseen (4 of 100")
    assert judge(["two passes differ"], "Fine.", [blind], 1) == ("fail", "two passes differ.")
    assert check_warnings([], 29).verdict == "no power" and check_warnings([], 30).verdict == "pass"
    assert check_warnings(["zero gradient"], 1).verdict == "fail"


# --- reports --------------------------------------------------------------------------------------------------------------


def test_on_one_image_no_check_passes():
    found = plain_report(1, 0.05)
    assert {check.number: check.verdict for check in found.checks} == dict.fromkeys(range(1, 10), "no power")
    assert found.powerless == tuple(range(1, 10)) and not found.failed
    assert "1 image is too few" in found[1].reason
    assert found[7].reason == "1 image is too few: this check is made on 10 or more." and found[7] not in found.made
    for check in found.made:
        fig = masking_checks.figure(check)
        assert fig.get_suptitle().endswith(": no power (n = 1)")
        matplotlib.pyplot.close(fig)
    with pytest.raises(ValueError, match="nothing to draw"):
        masking_checks.figure(found[7])


def test_a_random_model_fails_on_one_image_all_the_same():
    test, model = masked_nets.digits().test, masked_nets.noisy()
    chosen = next(i for i in range(20) if model.model(test.images()[i : i + 1]).argmax(1) == test.y[i])
    x, y = test.images()[[chosen] * 4], test.y[[chosen] * 4]
    assert masking.report(model, x, y, eps=0.1, settings=LITTLE_WORK)[2].verdict == "fail"


def test_where_nothing_survives_the_comparisons_have_no_power(tmp_path):
    found = plain_report(40, 0.4, folder=tmp_path)  # so far that an undefended net keeps nothing
    assert found[3].data["white-box accuracy"] == 0.0 and found.attacked == 40 and not found.failed
    for number in (3, 4, 5, 8):
        check = found[number]
        assert check.verdict == "no power"
        assert all((rule.could, rule.n, rule.count) == (0, 40, 0) for rule in check.rules)
        assert {rule.fails_from for rule in check.rules} == {3 if number != 8 else 7}
        assert "0 of 40 could count" in check.reason
    for number in (1, 2, 6):  # radii, gradients and silent successes do not need survivors
        assert found[number].verdict == "pass" and found[number].in_part
    record = files.read_json(tmp_path / masking.JSON_NAME)
    assert record["without power"] == [3, 4, 5, 8] and record["checks"][2]["power"][0]["fails_from"] == 3
    assert masking.MaskingReport.read(tmp_path).to_dict() == found.to_dict()
    table = masking_checks.checks_table(found)
    said = list(table["verdict"])
    assert said.count("○ no power") == 4 and "✓ pass in part" in said
    assert table.loc[3, "verdict"] == "○ no power" and table.loc[3, "power"] == "0 of 40 could count, 3 would fail"
    assert masking_checks.power_table(found).loc[(4, "broken by 20 random points only"), "fails from"] == 3


def test_survivors_give_the_power_back():
    found = plain_report(40, 0.01)
    for number in (3, 4, 5, 8):
        survived = round(found[number].data["white-box accuracy"] * 40)
        assert found[number].verdict == "pass" and {rule.could for rule in found[number].rules} == {survived}
        assert survived >= found[number].rules[0].fails_from


# --- records from before ----------------------------------------------------------------------------------------------


def test_a_record_from_before_is_judged_by_its_own_counts():
    """Take the power out of a new report, put "pass" back: the same rules, counts and verdicts come out of the rest."""
    for found in (plain_report(40, 0.4), plain_report(40, 0.05)):
        for check in found.checks:
            if check.verdict == "fail":
                continue
            old = {**check.to_dict(), "verdict": "pass", "reason": "Fine."}
            del old["power"]
            again = Check.from_record(json.loads(json.dumps(old)), found.attacked)
            assert again.verdict == check.verdict, check.title
            assert {r.name: (r.count, r.could, r.n, r.fails_from) for r in again.rules} == {
                r.name: (r.count, r.could, r.n, r.fails_from) for r in check.rules
            }, check.title


def test_a_record_without_the_counts_keeps_its_verdict():
    old = Check.from_record(
        {"number": 3, "title": "t", "verdict": "pass", "reason": "r", "rule": "Fails", "numbers": {"n": 5}, "data": {"only": {}}}
    )
    assert old.verdict == "pass" and old.power == [] and not old.in_part


def test_the_committed_reports_say_where_they_could_see_nothing():
    read = [masking.MaskingReport.read(path.parent) for path in sorted((paths.results_root() / "masking").glob(f"*/{masking.JSON_NAME}"))]
    assert read and not any(report.failed for report in read)
    for report in read:
        few = report.attacked < FEWEST
        assert [report[number].verdict for number in (1, 2, 6, 9)] == ["no power" if few else "pass"] * 4
        for check in report.checks:
            if check.number in (3, 4, 5, 8):
                left = round(check.data["white-box accuracy"] * report.attacked)
                could = not few and exceeds(left, report.attacked, check.data["allowed"])
                assert check.verdict == ("pass" if could else "no power")


def test_tables_over_networks_say_no_power():
    network = networks.Network({"config": {"data": "cifar10", "model": "cnn", "objective": "gfa-first", "seed": 1}}, paths.results_root())
    found = [(network, plain_report(40, 0.4))]
    row = ("CNN, CIFAR-10", "GFA-FIRST")
    assert masking_chapter.verdicts_table(found).loc[row, "3"] == "○ no power"
    assert masking_chapter.power_table(found).loc[row, "3"] == "0 (3)" and "3: black-box attacks never win" in masking_chapter.legend(found)
    said = masking_chapter.reasons_table(found)
    assert said.loc[(*row, "3. Black-box attacks never win"), "reason"].startswith("It could not have failed")
    assert said.loc[(*row, "1. More attack, more success"), "verdict"].startswith("✓ pass in part")
    one = next(one for one in checked.load() if one.masking and one.masking.powerless)
    assert "○ no power" in set(checked.verdicts_table([one])[one.title])


def test_how_many_checks_passed_with_power_is_counted_from_the_reports():
    strong, weak = plain_report(40, 0.01), plain_report(40, 0.4)
    for report in (strong, weak):
        counts = masking_checks.tally(report)
        assert sum(counts.values()) == 9 and counts["without power"] == len(report.powerless) and counts["fail"] == len(report.failed) == 0
        assert counts["pass in part"] == sum(check.in_part for check in report.checks)
    assert masking_checks.tally(weak)["without power"] >= 4
    said = masking_checks.findings({"strong": strong, "weak": weak})
    assert f"weak: {masking_checks.tally_words(weak)}" in said and "No check fails on any of 2 networks." in said
    assert "exclude nothing" in said and "weak" not in said.split("All checks pass")[1]
    assert "nothing is excluded" in masking_checks.findings({})


def test_a_failed_check_is_named_first_of_all():
    report = plain_report(40, 0.4)
    first = dataclasses.replace(report.checks[0], verdict="fail")
    failed = dataclasses.replace(report, checks=(first, *report.checks[1:]))
    said = masking_checks.findings({"net": failed})
    assert "FAILED: net, check 1." in said and "No check fails" not in said and "on 0 of 1: none" in said
    skipped = dataclasses.replace(report.checks[4], verdict="not applicable")
    report = dataclasses.replace(report, checks=(*report.checks[:4], skipped, *report.checks[5:]))
    assert masking_checks.tally(report)["not made"] == 1


def test_a_verdict_is_one_of_four():
    with pytest.raises(ValueError, match="one of pass, fail, no power, not applicable"):
        Check(1, "t", "maybe", "r", "f", {}, {})

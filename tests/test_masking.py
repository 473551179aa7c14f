"""The masking report: nets masked on purpose are flagged by the right checks, honest ones by none."""

import json
from dataclasses import replace
from functools import cache, partial, update_wrapper

import masked_nets
import matplotlib
import numpy as np
import pytest
import torch
from nets import Plane, global_random_state, images
from torch import nn

from deepdefense import attacks, evaluate, masking
from deepdefense.evaluation.report import Outcome, Report
from deepdefense.masking import binarisation, from_evaluation, gradient_checks, rival_checks, substitutes
from deepdefense.masking.check import as_json, exceeds, falls_short, rule_of
from deepdefense.masking.nine_checks import check_warnings
from replication import figures
from replication.chapters import masking_checks

matplotlib.use("Agg")
EPS = masked_nets.EPS
SETTINGS = masking.Settings(steps=15, draws=200, queries=400, readouts=24, targets=3, restarts=1)
BUDGET = dict(eps=EPS, settings=SETTINGS)

# What must be flagged, and what must not be.
EXPECTED = {
    "plain": (set(), {1, 2, 3, 4, 5, 6, 7, 8, 9}),
    "pgd_trained": (set(), {1, 2, 3, 4, 5, 6, 7, 8, 9}),
    "k_winners": ({3, 4, 7}, {9}),  # gradients of the wrong region: whatever needs none does better
    "loud": (
        {1, 2},
        {3, 4, 5, 7, 8, 9},
    ),  # only cross-entropy is blind; the margin attack among the white-box ones sees
    "quantised": ({1, 2, 3, 4, 5, 7}, {9}),  # no gradient at all
    "noisy": ({1, 2, 4, 6}, {9}),  # no two passes agree
}


@cache
def other_net():
    train = masked_nets.digits().train
    return substitutes.plain(masked_nets.small_net(nn.ReLU, seed=5), train.images(), train.y, steps=300, lr=3e-3)


@cache
def report(name):
    test = masked_nets.digits().test[:100]
    model = getattr(masked_nets, name)()
    return masking.report(model, test.images(), test.y, substitutes={"other": other_net()}, warnings=[], **BUDGET)


@pytest.mark.parametrize("name", EXPECTED)
def test_the_right_checks_flag_the_right_nets(name):
    flagged, clear = EXPECTED[name]
    found = report(name)
    assert [check.number for check in found.checks] == list(range(1, 10))
    assert flagged <= set(found.failed), {n: found[n].reason for n in flagged - set(found.failed)}
    assert not clear & set(found.failed), {n: found[n].reason for n in clear & set(found.failed)}


def test_honest_nets_pass_every_check_and_none_is_left_out():
    for name in ("plain", "pgd_trained"):
        assert [check.verdict for check in report(name).checks] == ["pass"] * 9


def test_the_reasons_name_the_mechanism():
    assert "gradient of exactly zero in ce" in report("loud")[2].reason
    assert "survive eps = 0.5" in report("quantised")[1].reason
    assert "two passes over the same images differ" in report("noisy")[2].reason
    assert "RayS breaks" in report("k_winners")[3].reason
    assert report("noisy")[7].verdict == "not applicable"  # no readout separates noise from noise


@pytest.mark.parametrize("name", ["plain", "noisy"])
def test_a_report_is_json_with_its_rules_and_every_check_has_a_figure(name):
    record = json.loads(json.dumps(report(name).to_dict(), allow_nan=False))
    assert record["failed"] == list(report(name).failed) and record["attacked"] <= record["images"] == 100
    for check in record["checks"]:
        assert check["rule"].startswith("Fails if") and check["reason"].endswith(".")
        if check["verdict"] == "not applicable":
            with pytest.raises(ValueError, match="nothing to draw"):
                masking_checks.figure(check)
            continue
        fig = masking_checks.figure(check)
        figures.check_size(fig)
        caption, alt = masking_checks.words(check)
        assert check["reason"] in caption and check["reason"] in alt and masking_checks.SEEN[check["number"]] in alt
        assert check["title"] in fig.get_suptitle() and check["verdict"] in fig.get_suptitle()
        matplotlib.pyplot.close(fig)


LITTLE = masking.Settings(steps=3, draws=20, queries=20, readouts=12, targets=1, restarts=1)
QUICK = dict(eps=EPS, settings=LITTLE)


def test_a_report_repeats_and_changes_nothing_even_for_a_random_model():
    test = masked_nets.digits().test[:20]
    model = masked_nets.noisy().train()
    before = global_random_state()
    first = masking.report(model, test.images(), test.y, **QUICK)
    assert global_random_state() == before and model.training
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert masking.report(model, test.images(), test.y, **QUICK).to_dict() == first.to_dict()
    model.eval()


def test_what_was_not_given_is_not_applicable():
    test = masked_nets.digits().test[:20]
    found = masking.report(masked_nets.plain(), test.images(), test.y, adaptive={}, black_box={}, **QUICK)
    assert {n: found[n].verdict for n in (3, 5, 8, 9)} == dict.fromkeys((3, 5, 8, 9), "not applicable")


def test_a_two_class_model_without_layers_gets_a_report():
    x, _ = images(12, (1, 4, 4))
    model = Plane(torch.linspace(-1, 1, 16), torch.tensor(0.0))
    found = masking.report(model, x, model(x).argmax(1), eps=EPS, settings=replace(LITTLE, steps=15))
    assert found[7].verdict == "not applicable" and not found.failed


def test_the_door():
    test = masked_nets.digits().test[:10]
    x, y, model = test.images(), test.y, masked_nets.plain()
    with pytest.raises(ValueError, match="eps must be above 0 and below 0.5"):
        masking.report(model, x, y, eps=0.5)
    with pytest.raises(ValueError, match="images must lie in"):
        masking.report(model, 2 * x, y, eps=0.1)
    with pytest.raises(ValueError, match="gets none of the 10 images right"):
        masking.report(model, x, (model(x).argmax(1) + 1) % 10, eps=0.1)
    with pytest.raises(ValueError, match="none of the 0 images"):
        masking.report(model, x[:0], y[:0], eps=0.1)
    with pytest.raises(ValueError, match="at least one attack"):
        masking.report(model, x, y, eps=0.1, white_box_attacks={})


def test_a_weak_claim_is_caught_although_the_model_is_honest():
    """An evaluation that "attacks" with one tiny step: black-box attacks, restarts and the binarisation test all object."""
    test = masked_nets.digits().test[:100]
    weak = {"tiny step": partial(attacks.loss_pgd, loss="ce", steps=1, alpha=0.005, random_start=False)}
    found = masking.report(masked_nets.plain(), test.images(), test.y, white_box_attacks=weak, **BUDGET)
    assert {3, 6, 7, 8} <= set(found.failed)


def test_losses_and_scales_are_held_against_what_is_claimed():
    """On logits × 10⁴ cross-entropy is blind and the margin sees: claimed alone, cross-entropy is caught; beside the margin
    a weaker loss is no fault."""
    test = masked_nets.digits().test[:60]
    x, y, net = test.images(), test.y, masked_nets.loud()
    claims = {loss: partial(attacks.restarted_pgd, loss=loss, steps=15) for loss in ("ce", "margin")}
    shared = dict(eps=EPS, settings=replace(LITTLE, steps=15), adaptive={}, black_box={})
    blind = masking.report(net, x, y, white_box_attacks={"ce": claims["ce"]}, **shared)[2]
    assert "break" in blind.reason and "images that no white-box attack does" in blind.reason
    both = masking.report(net, x, y, white_box_attacks=claims, **shared)[2]
    assert both.numbers["broken by one loss and not by another"] > 10 > both.numbers["broken by a loss only"]
    assert "no white-box attack" not in both.reason and "exactly zero in ce" in both.reason


# --- from an evaluation, and resumed --------------------------------------------------------------------------------------


@cache
def evaluation():
    test = masked_nets.digits().test[:40]
    suites = ["gradient", "adaptive", {"own": {"Square": partial(attacks.square, queries=50)}}]
    return evaluate(masked_nets.plain(), test.images(), test.y, eps=EPS, suites=suites, progress=False)


FROM_AN_EVALUATION = {
    "plain": set(),
    "pgd_trained": set(),
    "k_winners": {3, 7},
    "loud": {1, 2},
    "quantised": {1, 2, 3, 7, 9},
    "noisy": {1, 2, 9},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FROM_AN_EVALUATION)
def test_against_autoattack_as_the_white_box_the_same_nets_are_flagged(name):
    test, net = masked_nets.digits().test[:60], getattr(masked_nets, name)()
    x, y, random = test.images(), test.y, name == "noisy"
    done = evaluate(net, x, y, eps=EPS, suites=["gradient", "standard"], allow_random=random, progress=False)
    found = masking.report(net, x, y, eps=EPS, evaluated=done, settings=masking.preset("quick", draws=100))
    flagged = FROM_AN_EVALUATION[name]
    assert set(found.failed) >= flagged if flagged else not found.failed, {n: found[n].reason for n in found.failed}


def no_attack(*_arguments, **_settings):
    raise AssertionError("this attack was run in the evaluation already")


def test_what_an_evaluation_broke_is_not_attacked_again(monkeypatch):
    test, model, done = masked_nets.digits().test[:40], masked_nets.plain(), evaluation()
    for module, name in ((gradient_checks, "multi_targeted_pgd"), (attacks, "square")):
        monkeypatch.setattr(module, name, no_attack)
    found = masking.report(model, test.images(), test.y, evaluated=done, **QUICK)
    assert found[3].data["white-box"] == ["suite gradient", "suite adaptive"]
    assert list(found[3].data["only"]) == ["Square (own)", "RayS"]
    assert {"orthogonal PGD, clean", "smooth surrogate"} <= set(found[8].data["only"])
    pgds = [key for key in done.in_suite("adaptive") if "PGD" in key and "orth" not in key and "multi" not in key]
    left = done.robust(*done.in_suite("gradient"), *pgds).sum()
    assert found[3].data["white-box accuracy"] == pytest.approx(left / done.clean.sum())
    assert found[6].data["accuracy"]["multi-targeted"] == pytest.approx(done.robust("adaptive/multi-targeted PGD").sum() / done.clean.sum())
    assert found[9].verdict == "not applicable"  # AutoAttack was not among the suites


def test_what_a_part_of_autoattack_broke_counts_the_parts_before_it_and_its_warnings_are_check_nine():
    n, quiet = 6, dict(linf=np.zeros(6), l2=np.zeros(6), loss=np.zeros(6), cost={}, settings="", cumulative=True)

    def part(attacked, success):
        masks = [np.isin(np.arange(n), chosen) for chosen in (attacked, success)]
        return Outcome(*masks, np.zeros(n), **quiet)

    outcomes = {
        "standard/APGD-CE": part([0, 1, 2, 3, 4], [0, 1]),
        "standard/FAB-T": part([2, 3, 4], [2]),
        "standard/Square": part([3, 4], [3]),
    }
    warnings = [dict(part=part, message=part) for part in ("Square", "adaptive/PGD ce")]
    label = np.zeros(n, dtype=int)
    about = {"norm": "linf", "eps": EPS, "warnings": warnings}
    known = from_evaluation.of_report(Report(label, np.array([0, 0, 0, 0, 0, 1]), outcomes, about), torch.tensor(label), EPS)
    assert known.white_box["suite standard"].tolist() == [True, True, True, False, False, True]
    assert known.black_box["Square (standard)"].tolist() == [True, True, True, True, False, True]
    assert known.warnings == ["Square"] and known.multi_targeted is None


def test_presets():
    assert masking.preset("full", seed=3) == masking.Settings(seed=3)
    assert masking.preset("quick").draws < masking.preset("full").draws
    with pytest.raises(ValueError, match="preset must be one of quick, full; got 'fast'"):
        masking.preset("fast")


def test_an_evaluation_of_something_else_is_refused():
    test, model = masked_nets.digits().test[:40], masked_nets.plain()
    with pytest.raises(ValueError, match="must be a report in linf at eps 0.05, not in linf at eps 0.1"):
        masking.report(model, test.images(), test.y, eps=0.05, evaluated=evaluation(), settings=LITTLE)
    with pytest.raises(ValueError, match="must be a report of the same 40 images"):
        masking.report(model, test.images(), test.y.flip(0), evaluated=evaluation(), **QUICK)


def test_a_killed_report_goes_on_and_ends_with_the_same_file(tmp_path, monkeypatch):
    test, model = masked_nets.digits().test[:20], masked_nets.plain()

    def run(folder):
        return masking.report(model, test.images(), test.y, folder=folder, warnings=[], about={"name": "plain"}, **QUICK)

    whole = run(tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(rival_checks, "random_draws", no_attack)  # the fourth check dies
        with pytest.raises(AssertionError):
            run(tmp_path / "cut")
    assert not (tmp_path / "cut" / "masking.json").exists()
    with monkeypatch.context() as patch:
        for function in ("check_strength", "check_invariance"):
            made = getattr(gradient_checks, function)
            patch.setattr(gradient_checks, function, update_wrapper(partial(no_attack), made))
        assert run(tmp_path / "cut").to_dict() == whole.to_dict()
    records = [json.loads((tmp_path / name / "masking.json").read_text()) for name in ("whole", "cut")]
    for record in records:
        assert record.pop("environment")["packages"]["torch"]
    assert records[0] == records[1] and records[0]["kind"] == "masking" and records[0]["name"] == "plain"
    assert masking.MaskingReport.read(tmp_path / "cut").to_dict() == whole.to_dict()
    other = masking.report(model, test.images(), test.y, eps=EPS, folder=tmp_path / "cut", warnings=[], settings=replace(LITTLE, draws=30))
    assert other[4].data["draws"] == 30  # other settings are another report
    with pytest.raises(ValueError, match="holds results with model"):
        masking.report(masked_nets.pgd_trained(), test.images(), test.y, folder=tmp_path / "cut", **QUICK)


# --- the rules ----------------------------------------------------------------------------------------------------------


def test_the_rule_allows_chance_and_no_more():
    assert not exceeds(0, 100, 0.01) and not exceeds(1, 100, 0.01) and not exceeds(4, 100, 0.01)
    assert exceeds(5, 100, 0.01)  # P(Bin(100, 0.01) >= 5) = 0.0034, >= 4: 0.0184
    assert not exceeds(1, 5, 0.01) and exceeds(2, 5, 0.01)  # P(>= 2 of 5) = 0.00098, P(>= 1) = 0.049
    assert not falls_short(20, 20, 0.95) and not falls_short(17, 20, 0.95) and falls_short(15, 20, 0.95)


def test_json_types_only():
    value = as_json({1: torch.tensor([1.5, float("nan")]), "b": (float("inf"), True, None, {"c": 2})})
    assert value == {"1": [1.5, None], "b": [None, True, None, {"c": 2}]}


def test_autoattacks_warnings_decide_check_nine():
    assert check_warnings(None).verdict == "not applicable"
    assert check_warnings([]).verdict == "pass"
    found = check_warnings(["there are 3 points with zero gradient!", "it seems to be a randomized\ndefense."])
    assert found.verdict == "fail" and "3 points with zero gradient!; it seems to be a randomized defense" in found.reason
    assert rule_of(check_warnings).startswith("Fails if there is any warning.")


# --- binarisation -------------------------------------------------------------------------------------------------------


def linear_net(size=36, hidden=36):
    """Two linear layers without activation: features are linear in the image, so one signed step is the best attack."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(size, hidden), nn.Linear(hidden, 3))


def test_on_linear_features_one_signed_step_solves_every_readout_and_standing_still_none():
    x, _ = images(12, (1, 6, 6))
    step = partial(attacks.loss_pgd, steps=1, alpha=0.1, random_start=False)
    nothing = lambda model, x, y, *, eps, seed: x  # noqa: E731
    found = masking.binarisation_test(linear_net(), x, {"step": step, "nothing": nothing}, eps=0.1)
    assert found.readouts == 12 and found.solved == {"step": 12, "nothing": 0} and found.any_attack == 12


def test_a_readout_separates_the_surface_point_from_the_inner_points():
    net, (x, _) = linear_net(), images(1, (1, 6, 6))
    generator = torch.Generator().manual_seed(0)
    binary = binarisation.readout(net, "2", x, eps=0.1, inner=300, generator=generator)
    again = torch.Generator().manual_seed(0)
    surface = (x + 0.1 * binarisation._noise(x[0], binarisation.SURFACE_POINTS, again)).clamp(0, 1)
    inner = binarisation._inner(x[0], 0.1, 300, again)
    assert ((inner - x).abs().amax((1, 2, 3)) <= binarisation.INNER_RADIUS * 0.1 + 1e-6).all()
    assert binary(surface).argmax(1).any()
    assert not binary(inner).argmax(1).any() and binary(x).argmax(1).item() == 0
    assert binary(x)[0, 1].item() == pytest.approx(-binarisation.SCORE, rel=1e-3)


def test_where_nothing_separates_there_is_no_readout():
    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(2, 3)

        def forward(self, x):
            return self.head(torch.ones(len(x), 2))

    x, _ = images(3, (1, 6, 6))
    assert masking.binarisation_test(Constant(), x, {}, eps=0.1).readouts == 0


def test_without_a_weight_layer_the_test_cannot_be_made():
    x, _ = images(2, (1, 4, 4))
    with pytest.raises(ValueError, match="no linear or convolution layer"):
        masking.binarisation_test(Plane(torch.ones(16), torch.tensor(0.0)), x, {}, eps=0.1)

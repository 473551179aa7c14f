"""From files of networks to the quantities of the claims and the front page, on made-up networks whose answers are known."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import publish
import pytest

from deepdefense import objectives
from deepdefense.attacks import paper
from deepdefense.attacks.suites import GRADIENT
from deepdefense.evaluation.report import Outcome, Report
from deepdefense.storage import files, paths
from deepdefense.training import TrainConfig
from replication import networks as headline_networks
from replication import planned, profiles, provenance, records, scope, wording
from replication.chapters import gradient_attacks, headline, masking, minimum_norm
from replication.claims import by_seed, front, measured, quantities, rival, scoreboard, verdicts
from replication.claims.quantities import ALIGNMENTS
from replication.estimates import estimate

CNN, N = ("cifar10", "cnn"), 40
COST = {"images": N, "seconds": 1.0, "forward": 1, "backward": 1}


def outcome(success, distance=None):
    success = np.asarray(success)
    far = np.where(success, 0.01, np.inf) if distance is None else np.asarray(distance, float)
    arrays = dict(attacked=np.ones(N, bool), success=success, prediction=np.where(success, 1, 0), linf=far, l2=far, loss=np.zeros(N))
    return Outcome(**arrays, cost=COST, settings="made up", bounded=distance is None)


def first(k):
    """The first k of N images."""
    return np.arange(N) < k


def write(folder, defence, seed, *, lam=1.0, wrong=0, survive=0, distance=1.0, status="finished", alignment=0.0, rise=1.0):
    """A network that is wrong on the first `wrong` images; the last `survive` images survive everything."""
    run = TrainConfig(data=CNN[0], model=CNN[1], objective=defence, lam=lam if defence.startswith(("gfa", "gnr")) else 0.0, seed=seed)
    prediction, broken = np.where(first(wrong), 1, 0), ~first(N)[::-1] if survive == N else first(N - survive)
    label = np.zeros(N, int)
    record = {
        "kind": "training", "name": run.name(), "status": status, "config": run.to_dict(), "wall_time_s": 3600.0,
        "metrics": {"last": {"test_accuracy": 1 - wrong / N, "test_alignment": {"conv1": alignment}}},
        "environment": {"device": "cpu (test)", "commit": "abc"}, "data": {"train": 100},
        "history": [{"val_alignment": 0.9}, {"val_alignment": alignment + 0.001 * seed}],
    }  # fmt: skip
    files.write_json(folder / f"{run.name()}.json", record)
    about = {"norm": "linf", "eps": 8 / 255, "warnings": [], "name": run.name()}
    linf = {f"paper/{name}": outcome(broken) for name in paper.BOUNDED}
    linf |= {"standard/APGD-CE": outcome(broken), "adaptive/PGD mse": outcome(broken)}
    Report(label, prediction, linf, about).write(folder / f"{run.name()}.report-last-linf")
    far = {f"paper/{name}": outcome(first(N), np.full(N, distance)) for name in paper.MINIMUM_NORM}
    Report(label, prediction, far, about | {"norm": "l2", "eps": 0.5}).write(folder / f"{run.name()}.report-last-l2")
    swept = {"label": label, "prediction": prediction}
    right = prediction == label
    for name in GRADIENT:
        swept |= {f"{name}/{level}": right & (~broken | (level < 8)) for level in scope.LEVELS}
    where = folder / f"{run.name()}.measures-last"
    files.write_bytes(where / "sweep.parquet", records.write_sweep(swept))
    layer = {"mean": alignment, "mean_abs": abs(alignment)}
    geometry = {"alignment": {"layers": {"conv1": layer, "fc": layer}}}
    geometry["rise"] = {loss: {"tangential": {"mean": rise}} for loss in ("mse", "margin")}
    measured = {"kind": "measures", "name": run.name(), "training": {"config": run.to_dict()}, "geometry": geometry}
    files.write_json(where / "measures.json", measured)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Three seeds: GFA-FIRST keeps 8 more of 40 images than PGD and is wrong on 4, DEEP keeps as many as PGD."""
    where = tmp_path_factory.mktemp("written") / "quick"
    for seed in (1, 2, 3):
        write(where, "standard", seed)
        write(where, "gnr", seed)
        write(where, "pgd-at", seed, survive=20, distance=2.0, alignment=-0.1 + 0.001 * (seed - 2), rise=0.5)
        write(where, "gfa-first", seed, wrong=4, survive=28, distance=28.0 + seed, rise=0.25 + 0.01 * (seed - 2))
        write(where, "gfa-deep", seed, survive=20, distance=3.0, rise=0.75)
    return where


@pytest.fixture
def folder(written, tmp_path):
    """The networks of `written`, for one test to change."""
    return Path(shutil.copytree(written, tmp_path / "quick"))


def test_quantities_are_the_plans(folder):
    seed = headline_networks.by_seed(headline_networks.read_all(folder), CNN)[2]
    assert quantities.common(seed).sum() == N - 4
    assert quantities.survival(seed, "pgd-at", "APGD-100", 8) == pytest.approx(20 / 36)
    assert quantities.paper_gap(seed, "gfa-first", "APGD-100", 8) == pytest.approx(100 * 8 / 36)
    assert quantities.paper_gap(seed, "gfa-first", "FGSM", 4) == pytest.approx(0), "nothing is broken below 8/255"
    assert quantities.strict_gap(seed, "gfa-first") == pytest.approx(20) and quantities.strict_gap(seed, "gfa-deep") == pytest.approx(0)
    assert quantities.paper_ratio(seed, "gfa-first", "paper/DeepFool") == pytest.approx(30)
    assert quantities.paper_ratio(seed, "gfa-first", "paper/EADEN", "pgd-at") == pytest.approx(15)
    assert quantities.strict_ratio(seed, "gfa-deep") == pytest.approx(3)
    assert quantities.rise_ratio(seed, "gfa-first") == pytest.approx(0.25)
    assert [quantities.alignment_gap(seed, kind) for kind in ALIGNMENTS[:3]] == pytest.approx([-0.1, 0.1, -0.1])


def test_seed_by_seed_the_gaps_are_those_of_the_claims(folder, monkeypatch):
    networks = headline_networks.read_all(folder)
    found = by_seed.rows(networks)
    assert {row.claim for row in found} == {"C1", "C2"} and len(found) == 3 + 3 + 3, "C6 has no networks here"
    weak = [row for row in found if row.attack.startswith("APGD-100")]
    assert [(row.seed, row.kept, row.n, len(row.runs)) for row in weak] == [(seed, (28, 20), N - 4, 5) for seed in (1, 2, 3)]
    gap = scoreboard.gap(headline_networks.by_seed(networks, CNN), "APGD-100", 15.2)
    assert np.mean([row.gap for row in weak]) == pytest.approx(gap.best.estimate.mean)
    strict = [row for row in found if row.claim == "C1" and row.attack.startswith("worst case")]
    assert np.mean([row.gap for row in strict]) == pytest.approx(gap.strict[1].mean) and {len(row.runs) for row in strict} == {2}
    monkeypatch.setattr(provenance, "record_files", lambda: {name: None for name in weak[0].runs})
    text = by_seed.text(folder.parent)
    assert text.count("<tr>") == 1 + len(found) and f'{provenance.list_page(weak[0].runs)}">5 runs' in text
    assert "No network has been attacked yet" in by_seed.text(folder)


def test_the_worst_case_at_a_larger_eps_stands_beside_and_decides_nothing(folder):
    networks = headline_networks.read_all(folder)
    before = scoreboard.gap(headline_networks.by_seed(networks, CNN), "APGD-100", 15.2)
    for network in networks:
        if network.defence in ("pgd-at", "gfa-first", "gfa-deep"):
            broken = first(N - {"pgd-at": 2, "gfa-first": 6, "gfa-deep": 1}[network.defence])
            outcomes = {key: outcome(broken) for key in ("standard/APGD-CE", "adaptive/PGD mse")}
            about = {"norm": "linf", "eps": 16 / 255, "warnings": [], "name": network.name, "mode": "worst_case"}
            Report(np.zeros(N, int), np.zeros(N, int), outcomes, about).write(folder / f"{network.name}.report-last-linf-eps0.06275")
    after = headline_networks.read_all(folder)
    found = scoreboard.gap(headline_networks.by_seed(after, CNN), "APGD-100", 15.2)
    assert before.beyond is None and replace(found, beyond=None) == before, "the plan's numbers and word are the same"
    assert (found.beyond.level, found.beyond.variant, found.beyond.images) == (16, "gfa-first", (N,) * 3)
    assert found.beyond.estimate.mean == pytest.approx(100 * 4 / N)
    assert {network.reports["linf"].about["eps"] for network in after} == {8 / 255} == {n.singly.about["eps"] for n in after}
    table = gradient_attacks.gaps_table(after, {"APGD-100": 15.2})
    row = table.loc[("CNN, CIFAR-10", "APGD-100", "strict, 16/255")]
    assert row["gap (points)"].startswith("+10.0") and row["remark"] == "not read by the rule" and len(table) == 4


def test_samples_of_images_have_the_means_of_the_quantities(folder):
    seeds = headline_networks.by_seed(headline_networks.read_all(folder), CNN)
    ones = np.ones((1, N))
    assert quantities.gap_samples(seeds, "gfa-first", "FGSM", 8).mean(ones)[0] == pytest.approx([100 * 8 / 36] * 3)
    assert quantities.strict_samples(seeds, "gfa-first").mean(ones)[0] == pytest.approx([20] * 3)
    paper, n = quantities.paper_ratio_estimate(seeds, "gfa-first", "paper/DeepFool")
    assert paper == replace(estimate([29, 30, 31]), mean=pytest.approx(30)) and n == (36, 36, 36)
    assert quantities.with_power((paper, n)) == paper and quantities.with_power(None) is None
    assert quantities.with_power((paper, (36, 29, 36))) is None, "below 30 images of a seed nothing could be shown"
    strict, n = quantities.strict_ratio_estimate(seeds, "gfa-first", "pgd-at")
    assert strict.mean == pytest.approx(15) and n == (36, 36, 36)
    found = quantities.ceiling(seeds, "APGD-100", 16)
    assert found.points == pytest.approx(100 * 16 / 36) and found.images == (36, 36, 36)
    assert quantities.ceiling(seeds, "APGD-100", 4).points == 0


def test_best_is_read_only_where_the_claim_could_have_been_seen(folder):
    """Adversarial training keeps everything below 8/255, where GFA cannot win, and all but 16 of 36 from there on: 44.4 points."""
    seeds = headline_networks.by_seed(headline_networks.read_all(folder), CNN)
    found = scoreboard.gap(seeds, "APGD-100", 15.2)
    assert found.best.level in (8, 12, 16) and found.best.ceiling.points == pytest.approx(100 * 16 / 36)
    assert found.best.estimate.low < found.fixed.estimate.low, "it was chosen among three eps more"
    assert found.best.estimate.high == found.fixed.estimate.high
    none = scoreboard.gap(seeds, "APGD-100", 50.0)
    assert none.best is None and none.verdict == "inconclusive" and none.fixed is not None
    assert none.best_words() == "no power: +50.0 could not be seen at any ε, at most +44.4 points at 8/255 (n 36)"
    table = gradient_attacks.gaps_table(headline_networks.read_all(folder), {"APGD-100": 15.2, "FGSM": 50.0})
    assert list(table.xs("paper, best eps", level="protocol")["claim in reach"]) == ["at 8, 12, 16 /255", "at no eps"]


def test_the_eps_are_those_of_the_records(folder):
    """A pair swept further than others is read further; what one network lacks is not compared."""
    for number, path in enumerate(sorted(folder.glob("*.measures-last/sweep.parquet"))):
        swept = records.read_sweep(path)
        swept |= {"FGSM/51": swept["FGSM/16"], "APGD-100/51": swept["APGD-100/16"]}
        if number == 0:
            del swept["APGD-100/16"]
        files.write_bytes(path, records.write_sweep(swept))
    networks = headline_networks.read_all(folder)
    seeds = headline_networks.by_seed(networks, CNN)
    assert quantities.levels(seeds, "FGSM") == [1, 2, 4, 8, 12, 16, 51] and quantities.levels(seeds, "APGD-100")[-2:] == [12, 51]
    assert gradient_attacks.gaps_table(networks, {"FGSM": 20.0}).iloc[1]["claim in reach"] == "at 8, 12, 16, 51 /255"
    assert gradient_attacks.eps_curves(networks, CNN).axes[0].lines[0].get_xdata()[-1] == 51
    assert quantities.levels({}, "FGSM") == []


def test_fewer_than_thirty_images_are_counted_and_decide_nothing(folder):
    """GFA-FIRST wrong on 20 more: 16 images are left that all get right."""
    for seed in (1, 2, 3):
        write(folder, "gfa-first", seed, wrong=24, survive=28, distance=28.0 + seed)
    networks = headline_networks.read_all(folder)
    found = scoreboard.gap(headline_networks.by_seed(networks, CNN), "APGD-100", 15.2)
    kept = "16 against 16 of 16"
    assert found.fixed.words() == f"images kept, GFA-FIRST against PGD-7 training at 8/255: {kept}, {kept}, {kept}"
    assert found.best_words() == "no power: 16 common images" and found.verdict == "inconclusive"
    assert set(gradient_attacks.paper_table(networks, CNN)["n"]) == {"16"}
    assert gradient_attacks.paper_table(networks, CNN).loc["PGD-7 training", "FGSM"] == "16 of 16, 16 of 16, 16 of 16"
    assert [ax.get_title() for ax in gradient_attacks.eps_curves(networks, CNN).axes] == ["PGD-20 margin\nall images"]
    assert "Not drawn: attacks with fewer than 30 images" in gradient_attacks.curves_words(networks, CNN)[0]


def test_networks_attacked_on_other_images_are_not_compared(folder):
    path = next(folder.glob("*gfa-first*seed2*.measures-last/sweep.parquet"))
    swept = records.read_sweep(path)
    swept["label"] = swept["prediction"] = np.where(first(3), 5, swept["label"])
    files.write_bytes(path, records.write_sweep(swept))
    with pytest.raises(ValueError, match="same first test images; their labels differ"):
        quantities.gap_samples(headline_networks.by_seed(headline_networks.read_all(folder), CNN), "gfa-first", "FGSM", 8)


def images(margin, rise, right=None, alignment=None, mse=None):
    right = [True] * len(margin) if right is None else right
    found = {"label": [0] * len(margin), "right": right, "margin": list(margin), "rise": {"margin": list(rise)}}
    found["rise"]["mse"] = list(rise if mse is None else mse)
    return found | {"alignment": [0.0] * len(margin) if alignment is None else list(alignment)}


def with_images(folder, defence, seed, **what):
    path = next(folder.glob(f"*{defence}*seed{seed}*.measures-last/measures.json"))
    record = files.read_json(path)
    record["geometry"]["images"] = images(**what)
    files.write_json(path, record)


def test_the_control_of_c5_is_taken_image_by_image(folder):
    """Plain loses half of each margin; GFA says everything ten times more softly and loses 0.4 of its own, but for one image."""
    margins = np.linspace(1, 2, N)
    for seed in (1, 2, 3):
        factor = 0.4 + 0.01 * (seed - 2)
        with_images(folder, "standard", seed, margin=margins, rise=margins / 2, right=[*[True] * (N - 1), False], mse=margins)
        rises, right = np.where(first(1), 0.9, factor * margins / 10), [True, False, *[True] * (N - 2)]
        with_images(folder, "gfa-first", seed, margin=margins / 10, rise=rises, right=right, mse=factor / 4 * margins)
    seeds = headline_networks.by_seed(headline_networks.read_all(folder), CNN)
    assert quantities.control_samples(seeds, "gfa-first").images == (N - 2,) * 3
    found = quantities.control(seeds, "gfa-first", 2)
    assert found.mean == pytest.approx(0.8) and found.n == 3 and found.low < 0.8 < found.high < 1
    assert quantities.control(seeds, "gfa-deep") is None, "its record has no images"
    judged = scoreboard.judge(headline_networks.read_all(folder), None, ["C5"])[0]
    assert "the margin's rise over the image's own margin: 0.80× plain [" in judged.strict
    rises = [quantities.rise_estimate(seeds, "gfa-first", loss, 2) for loss in ("mse", "margin")]
    assert verdicts.suppressed(*rises) == "reproduced", "flatter by far more than half"
    assert judged.verdict == "partly reproduced", "but not by half of its own margin"


def test_rises_and_alignments_count_the_images_where_they_are_recorded(folder):
    """Means as in the records, seeds that agree, images that do not: the interval is that of the images."""
    seeds = headline_networks.by_seed(headline_networks.read_all(folder), CNN)
    assert quantities.rise_estimate(seeds, "gfa-first") == estimate([0.24, 0.25, 0.26]), "means alone: the seeds"
    spread = np.linspace(0, 2, N)
    for seed in (1, 2, 3):
        with_images(folder, "standard", seed, margin=np.ones(N), rise=np.ones(N))
        with_images(folder, "gfa-first", seed, margin=np.ones(N), rise=0.25 * spread)
        with_images(folder, "pgd-at", seed, margin=np.ones(N), rise=np.ones(N), alignment=0.1 * (1 - spread))
    seeds = headline_networks.by_seed(headline_networks.read_all(folder), CNN)
    error = 1.96 * spread.std() / N**0.5
    rise = quantities.rise_estimate(seeds, "gfa-first", "margin")
    assert (rise.mean, rise.low, rise.high) == pytest.approx((0.25, 0.25 * (1 - error), 0.25 * (1 + error)), rel=0.03)
    assert quantities.rise_estimate(seeds, "gfa-first", "margin", choices=10).high > rise.high
    signed = quantities.alignment_estimate(seeds)
    assert (signed.mean, signed.low, signed.high) == pytest.approx((0, -0.1 * error, 0.1 * error), abs=0.002)
    magnitude = quantities.alignment_estimate(seeds, ALIGNMENTS[1])
    assert magnitude.mean == pytest.approx(0.1 * np.abs(1 - spread).mean()) and magnitude.low > 0
    assert quantities.alignment_estimate(seeds, ALIGNMENTS[2]).mean == pytest.approx(-0.1), "over the layers: means alone"
    assert quantities.alignment_estimate({}) is None is quantities.rise_estimate({}, "gfa-first")


def test_the_control_needs_the_same_images(folder):
    one = {"name": "a", "geometry": {"images": images([1.0, -1.0, 0.0], [0.5, 0.5, 0.5], [True, False, True])}}
    other = {"name": "b", "geometry": {"images": images([2.0] * 3, [1.0, 1.0, 1.0])}}
    assert np.isnan(measured.margin_shares(one)).tolist() == [False, True, True]
    values, counted = measured.share_ratio(one, other)
    assert values[0] == 1 and counted.tolist() == [True, False, False]
    other["geometry"]["images"]["label"] = [0, 1, 0]
    with pytest.raises(ValueError, match="a and b were not measured on the same images"):
        measured.share_ratio(one, other)
    assert measured.share_ratio(one, {"name": "b", "geometry": {}}) is None


def test_a_failed_attack_is_no_distance_and_an_infinite_one(folder):
    network = headline_networks.of(headline_networks.read_all(folder), CNN, "gfa-deep")[0]
    report = network.reports["l2"]
    found = {key: replace(one, l2=np.where(first(12), np.inf, one.l2)) for key, one in report.outcomes.items()}
    replace(report, outcomes=found).write(folder / f"{network.name}.report-last-l2")
    seed = headline_networks.by_seed(headline_networks.read_all(folder), CNN)[1]
    assert len(quantities.paper_distances(seed, "paper/DeepFool", "gfa-deep")) == N - 12
    assert np.isinf(quantities.strict_distances(seed["gfa-deep"])).sum() == 12
    assert minimum_norm.distance_table(headline_networks.read_all(folder), CNN).loc["GFA-DEEP", "failures"] == "12 of 120"


def test_the_scoreboard_says_what_the_rules_say(folder):
    timing = {"rows": [{"contestant": name, "ratio": dict(q25=a, median=a, q75=a)} for name, a in
                       (("GFA-FIRST", 2.0), ("GFA-DEEP", 2.2), ("PGD-7", 5.8))]}  # fmt: skip
    found = {one.claim.id: one for one in scoreboard.judge(headline_networks.read_all(folder), timing)}
    assert {key: one.verdict for key, one in found.items()} == {
        "C1": "reproduced", "C2": "reproduced", "C3": "reproduced", "C4": "reproduced", "C5": "reproduced",
        "C6": "partly reproduced", "C7": "reproduced", "C8": "partly reproduced",
    }  # fmt: skip
    said = found["C1"].paper_protocol
    assert said.startswith("fixed: +22.2 points [+") and "(3 seeds) of at most +44.4, n 36, GFA-FIRST at 8/255; best: +22.2" in said
    assert found["C1"].strict.startswith("+20.0 points [+") and found["C1"].strict.endswith("] (3 seeds), n 40, GFA-FIRST")
    assert "[+20.0, +20.0]" not in found["C1"].strict, "equal seeds are no certainty"
    assert found["C5"].strict.endswith("the margin's rise over the image's own margin: not recorded")
    assert found["C8"].paper_protocol.startswith("at the input −0.100")
    assert len(found["C3"].claim.paper) and found["C3"].paper_protocol.startswith("30.00× [")


@pytest.mark.parametrize("status", ["collapsed", "diverged"])
def test_a_seed_with_a_collapsed_network_is_left_out_and_two_are_too_few(folder, status):
    path = next(folder.glob("*pgd-at*seed2*.json"))
    files.write_json(path, files.read_json(path) | {"status": status})
    networks = headline_networks.read_all(folder)
    seeds = headline_networks.by_seed(networks, CNN)
    assert len(quantities.per_seed(seeds, quantities.strict_gap, "gfa-first")) == 2
    assert {one.verdict for one in scoreboard.judge(networks, None)} == {"inconclusive", "reproduced"}, "C3 to C5 need no PGD network"


def test_no_networks_at_all_is_inconclusive_and_says_so(tmp_path):
    text = scoreboard.markdown(scoreboard.judge([], None))
    assert text.count("**inconclusive**") == 8 and "no usable run" in text
    with pytest.raises(files.ResultsError, match="make reproduce PROFILE=quick"):
        headline_networks.read_all(tmp_path / "quick")


def test_full_results_take_the_place_of_reduced_ones(folder):
    root = folder.parent
    for name, hours in (("search", 2), ("full_search", 3)):
        record = {"kind": "training", "wall_time_s": hours * 3600, "environment": {"device": "gpu"}}
        files.write_json(root / name / "a.json", record)
    text = scoreboard.text(root)
    assert "(reduced scale)" in text and "| **inconclusive** | in words | *paper's protocol:* no record" in text, "C7 has no times yet"
    assert "1 run of the first search (2.0 h of training), 1 run of the search at full size (3.0 h of training), 15 headline runs" in text
    timing = {"kind": "benchmark", "name": "training", "environment": {"device": "cpu (x86_64)"}, "rows": []}
    files.write_json(root / "benchmarks" / "training.json", timing)
    assert "| **inconclusive (CPU)** | in words |" in scoreboard.text(root)
    files.write_json(root / "benchmarks" / "training.json", timing | {"environment": {"device": "NVIDIA H100"}})
    assert "| **inconclusive (NVIDIA H100)** | in words |" in scoreboard.text(root)
    full = root / "paper"
    assert headline_networks.under_way(root) == [] and front.under_way_sentence([]) == ""
    shutil.copytree(folder, full)
    for path in full.glob("*.json"):
        record = files.read_json(path)
        files.write_json(path, record | {"config": record["config"] | {"epochs": 30}})
    kept = ("report-last-linf", "report-last-l2", "measures-last")
    names = {path.stem: int(path.stem.split("-seed")[1][0]) for path in full.glob("*.json")}
    runs = [planned.PlannedRun(name, CNN, seed, kept) for name, seed in names.items()]
    assert "(reduced scale)" in scoreboard.text(root), "nothing says what the folder is to hold"
    so_far = headline_networks.under_way(root)
    table = headline.under_way_table(so_far)
    assert {n.where for n in so_far} == {full} and len(so_far) == len(table) == 15 and list(table["n"]) == [f"{N}"] * 15
    kept_by_pgd = [wording.percent(n.reports["linf"].robust().mean(), N) for n in so_far if n.defence == "pgd-at"]
    assert list(table.loc[("CNN, CIFAR-10", "PGD-7 training"), "kept, 8/255 (%)"]) == kept_by_pgd
    said = front.under_way_sentence(so_far)
    assert "in no verdict yet, images kept in the worst case at 8/255 (in parentheses: clean accuracy), in %. *CNN, CIFAR-10, seeds" in said
    assert "*CNN, CIFAR-10, seeds 1, 2, 3*: " in said and said in front.text(root)
    kept = {name: sum(n.reports["linf"].robust().mean() for n in so_far if n.defence == name) for name in {n.defence for n in so_far}}
    order = sorted(kept, key=lambda name: said.index(scope.DEFENCE_NAMES[name]))
    assert [kept[name] for name in order] == sorted(kept.values(), reverse=True), "the most robust comes first"
    clean = ", ".join(wording.number(100 * n.clean) for n in so_far if n.defence == "pgd-at")
    assert f"PGD-7 training: {', '.join(kept_by_pgd)} ({clean})" in said
    one_less = [n for n in so_far if (n.defence, n.seed) != ("pgd-at", 1)]
    assert "PGD-7 training, seeds 2, 3: " in front.under_way_sentence(one_less), "where seeds differ, each setting says its own"
    files.write_json(full / planned.GRID_JSON, planned.as_json(runs))
    assert "(reduced scale)" not in scoreboard.text(root) and {n.where for n in headline_networks.headline(root)} == {full}
    assert headline_networks.under_way(root) == []
    more = [planned.PlannedRun(f"{run.name}-more", CNN, 4, kept) for run in runs]
    files.write_json(full / planned.GRID_JSON, planned.as_json([*runs, *more]))
    assert {n.where for n in headline_networks.headline(root)} == {full}, "three whole seeds stay while further ones are under way"
    assert headline_networks.full_size_progress(root) == "CNN, CIFAR-10: 15 of 30 runs"
    next(full.glob("*seed2*/sweep.parquet")).unlink()
    assert {n.where for n in headline_networks.headline(root)} == {folder} and "(reduced scale)" in scoreboard.text(root)
    assert headline_networks.full_size_progress(root) == "CNN, CIFAR-10: 14 of 30 runs"


def test_scale_is_read_from_the_record():
    record = {"config": TrainConfig(data="cifar10", epochs=30).to_dict()}
    assert not records.reduced(record) and records.FULL_SIZE["epochs"] == profiles.make("paper").epochs
    for smaller in ({"width": 0.5}, {"epochs": 29}, {"train_size": 44_999}):
        assert records.reduced({"config": record["config"] | smaller}), smaller
    assert not records.reduced({"config": record["config"] | {"train_size": 45_000}})


def test_no_committed_headline_record_is_of_changes_that_no_commit_has():
    for path in (paths.results_root() / "paper").rglob("*.json"):
        assert not publish.unclean(files.read_json(path)), path
    dirty = {"training": {"environment": {"commit": "abc-dirty"}}, "environment": {"commit": "abc"}}
    assert publish.unclean(dirty) == ["abc-dirty"] and publish.unclean({"pieces": [dirty]}) and not publish.unclean({"commit": "abc"})


def test_tables_and_figures_of_the_chapters(folder):
    networks = headline_networks.read_all(folder)
    assert headline_networks.present(networks) == [CNN]
    runs = headline.runs_table(networks)
    assert runs.loc[("CNN, CIFAR-10", "GFA-FIRST"), "clean (%)"] == "90.0 ± 0.0" and list(runs["seeds"]) == ["1, 2, 3"] * 5
    assert runs.loc[("CNN, CIFAR-10", "GFA-FIRST"), "GFA took hold"] == "0.001, 0.002, 0.003: 0 of 3"
    assert runs.loc[("CNN, CIFAR-10", "plain"), "GFA took hold"] == "–"
    table = gradient_attacks.accuracy_table(networks, CNN)
    assert table.loc["GFA-FIRST", "worst case"] == "70.0 ± 0.0" and table.loc["plain", "APGD-100"] == "0.0 ± 0.0"
    assert "40 test images" in gradient_attacks.numbers_of_images(networks, CNN)
    assert gradient_attacks.gaps_table(networks, {"APGD-100": 15.2}).iloc[0]["by the rule"] == "reproduced"
    assert minimum_norm.ratio_table(networks).shape[0] == 8
    assert len(gradient_attacks.eps_curves(networks, CNN).axes) == 3 and minimum_norm.distance_curves(networks).axes
    with pytest.raises(ValueError, match="nothing to draw"):
        minimum_norm.distance_curves([])


def test_attacks_bear_the_names_that_the_records_give_them(folder):
    networks = headline_networks.read_all(folder)
    assert headline_networks.swept_attacks(networks) == list(GRADIENT) and not headline_networks.swept_attacks([])
    assert list(gradient_attacks.paper_table(networks, CNN).columns) == [*paper.BOUNDED, "n"]
    plain = headline_networks.of(networks, CNN, "standard")[0]
    assert quantities.distance_attacks(plain) == [f"paper/{name}" for name in paper.MINIMUM_NORM]
    seed = headline_networks.by_seed(networks, CNN)[1]
    report = seed["gfa-deep"].reports["l2"]
    fewer = {f"other/{key}" if key == "paper/CW" else key: one for key, one in report.outcomes.items()}
    replace(report, outcomes=fewer).write(folder / f"{seed['gfa-deep'].name}.report-last-l2")
    seed = headline_networks.by_seed(headline_networks.read_all(folder), CNN)[1]
    with pytest.raises(ValueError, match="the same minimum-norm attacks; their reports differ"):
        quantities.strict_ratio(seed, "gfa-deep")
    assert quantities.strict_ratio(seed, "gfa-first") == pytest.approx(29)


def test_a_closed_loop_shows_its_target_where_others_show_their_lambda(folder):
    for path in folder.glob("*gfa-first*.json"):
        record = files.read_json(path)
        record["config"] |= {"lam": 0.0, "options": {"target": 0.25, "form": "abs"}}
        files.write_json(path, record)
    runs = headline.runs_table(headline_networks.read_all(folder)).loc["CNN, CIFAR-10"]
    assert runs.loc["GFA-FIRST", ["λ", "warm-up", "set besides"]].tolist() == ["target 0.25", "–", "form abs"]
    assert runs.loc["GFA-DEEP", "λ"] == "1" and runs.loc["plain", "λ"] == "–"


def test_what_gfa_gains_stands_beside_what_its_checks_say(folder):
    networks = headline_networks.read_all(folder)
    table = masking.gains_table(networks, []).loc["CNN, CIFAR-10"]
    assert table.loc["GFA-FIRST"].tolist() == ["70.0 [55.0, 82.5]", "+70.0, +70.0, +70.0", "no report"]
    assert table.loc["GFA-DEEP", "points over plain"].startswith("50.0 [")
    path = next(folder.glob("*gfa-deep*seed2*.json"))
    files.write_json(path, files.read_json(path) | {"status": "collapsed"})
    collapsed = masking.gains_table(headline_networks.read_all(folder), []).loc["CNN, CIFAR-10"]
    assert collapsed.loc["GFA-DEEP", "by seed"] == "+50.0, +50.0"


def test_other_losses_are_compared_with_the_one_trained_on(folder):
    networks = headline_networks.read_all(folder)
    assert set(masking.other_losses_table(networks).loc["CNN, CIFAR-10"]) == {"–"}, "these reports lack the attack on several targets"
    for network in networks:
        report = network.reports["linf"]
        keeps = report.outcomes["adaptive/PGD mse"].success & (np.arange(N) >= 2) if network.defence == "gfa-deep" else None
        found = outcome(report.outcomes["adaptive/PGD mse"].success if keeps is None else keeps)
        more = report.outcomes["adaptive/PGD mse"] if keeps is not None else found
        outcomes = {"adaptive/PGD mse": found if keeps is not None else more, f"adaptive/{masking.TARGETS}": more}
        Report(report.label, report.prediction, outcomes, report.about).write(folder / f"{network.name}.report-last-linf")
    row = masking.other_losses_table(headline_networks.read_all(folder)).loc["CNN, CIFAR-10"]
    assert row["GFA-DEEP"] == "5.0 ± 0.0" and row["plain"] == "0.0 ± 0.0", "two of forty images"


def test_the_headline_defences_are_objectives():
    assert set(scope.DEFENCES) <= set(objectives.OBJECTIVES)


@pytest.mark.parametrize("clean, survive, weak", [(0.44, 20, True), (0.45, 7, True), (0.45, 8, False)])
def test_a_gap_to_adversarial_training_below_the_plans_bar_is_inconclusive(folder, clean, survive, weak):
    """45 % clean on the whole test set and 20 % in the worst case, 8 of 40 images, both; asked of full-size networks alone."""
    for seed in (1, 2, 3):
        write(folder, "pgd-at", seed, survive=survive)
    for full in (True, False):
        for path in folder.glob("*.json"):
            record = files.read_json(path)
            record["config"] |= {"epochs": 30 if full else 29}
            record["metrics"]["last"] |= {"test_accuracy": clean}
            files.write_json(path, record)
        found = {f.claim.id: f for f in scoreboard.judge(headline_networks.read_all(folder), None)}
        figures = f"{100 * clean:.1f} % clean, {survive / 0.4:.1f} % in the worst case, 3 seeds"
        said = f"adversarial training below the plan's 45 % clean and 20 % in the worst case ({figures})"
        for claim in ("C1", "C2", "C6"):
            assert (said in found[claim].strict) == (weak and full), claim
        verdict = "inconclusive" if weak and full else "reproduced"
        assert found["C1"].verdict == found["C2"].verdict == verdict and found["C3"].verdict == "reproduced"
    assert rival.of(n for n in headline_networks.read_all(folder) if n.defence != "pgd-at") is None


def test_an_aligned_setting_has_rows_of_its_own(folder):
    """No mean over two settings, no seed counted twice: "GFA-FIRST" is the chosen one, whatever stands beside it."""
    before = headline_networks.read_all(folder)
    for seed in (1, 2, 3):
        write(folder, "gfa-first", seed, lam=9.0, wrong=8, survive=20, distance=5.0, rise=0.125, alignment=0.3)
    networks = headline_networks.read_all(folder)
    assert headline_networks.sides(before) == (False,) and headline_networks.sides(networks, CNN) == (False, True)
    assert [n.row for n in networks if n.defence == "gfa-first"] == ["gfa-first"] * 3 + ["gfa-first-aligned"] * 3
    rows = {row for row, _, _ in headline_networks.gfa_rows(networks, CNN)}
    assert rows == {"gfa-first", "gfa-first-aligned", "gfa-deep"}
    makers = {
        "accuracies": lambda some: gradient_attacks.accuracy_table(some, CNN),
        "networks": lambda some: headline.runs_table(some).loc["CNN, CIFAR-10"],
        "distances": lambda some: minimum_norm.distance_table(some, CNN),
        "gains": lambda some: masking.gains_table(some, []).loc["CNN, CIFAR-10"],
    }
    shown = {name: make(networks) for name, make in makers.items()}
    for name, make in makers.items():
        assert "GFA-FIRST, aligned" in shown[name].index, name
        assert make(before).equals(shown[name].drop("GFA-FIRST, aligned")), f"{name}: an aligned setting changes another row"
    assert shown["accuracies"].loc["GFA-FIRST, aligned", ["clean", "worst case", "seeds"]].tolist() == ["80.0 ± 0.0", "50.0 ± 0.0", 3]
    assert shown["networks"].loc["GFA-FIRST, aligned", "λ"] == "9" and shown["networks"].loc["GFA-FIRST, aligned", "seeds"] == "1, 2, 3"
    assert shown["gains"].loc["GFA-FIRST, aligned", "by seed"] == "+50.0, +50.0, +50.0"
    gaps = gradient_attacks.gaps_table(networks, {"FGSM": 1.0})
    assert gaps.loc[("CNN, CIFAR-10", "FGSM", "strict, 8/255"), "gap (points)"].startswith("+20.0")
    assert gaps.loc[("CNN, CIFAR-10, aligned setting", "FGSM", "strict, 8/255"), "gap (points)"].startswith("+0.0")
    ratios = minimum_norm.ratio_table(networks).loc["CNN, CIFAR-10", "DeepFool"]["to plain (×)"]
    assert ratios["GFA-FIRST, aligned", "strict"].startswith("5.00") and ratios["GFA-FIRST", "strict"].startswith("30.00")
    seeds = headline_networks.by_seed(networks, CNN)
    one, two = (scoreboard.gap(seeds, "FGSM", 1.0, settings) for settings in (1, 2))
    for ours, theirs in ((one.best.estimate, two.best.estimate), (one.strict[1], two.strict[1])):
        assert theirs.low < ours.low and (theirs.mean, theirs.high) == (ours.mean, ours.high), "the best of twice as many"
    judged = scoreboard.judge(networks, None, ["C2"])[0]
    assert wording.interval(scoreboard.gap(seeds, "FGSM", scoreboard.CLAIMED["FGSM"], 2).strict[1], " points", sign=True) in judged.strict
    caption, _ = gradient_attacks.curves_words(networks, CNN)
    assert "GFA-FIRST 70 %, GFA-FIRST, aligned 50 %" in caption
    drawn = gradient_attacks.eps_curves(networks, CNN)
    panels = [[line.get_label() for line in ax.lines] for ax in drawn.axes]
    assert ["GFA-FIRST, aligned" in names for names in panels] == [False, False, True], "on images of its own, not on the chosen one's"
    page = headline_networks.of_page(folder=folder)
    assert [measured.row(one) for one in page.measured(CNN)].count("gfa-first-aligned") == 3


def test_an_aligned_setting_beside_the_chosen_one_is_judged_too_and_the_kinder_word_stands(folder):
    """A second setting of GFA-FIRST, more aligned, keeps as many images as adversarial training and lies no farther than plain."""
    before = {f.claim.id: f for f in scoreboard.judge(headline_networks.read_all(folder), None)}
    for seed in (1, 2, 3):
        write(folder, "gfa-first", seed, lam=9.0, survive=20, distance=1.0, rise=0.9, alignment=0.3)
    networks = headline_networks.read_all(folder)
    chosen, aligned = (headline_networks.by_seed(networks, CNN, aligned=side)[1]["gfa-first"] for side in (False, True))
    assert chosen.record["config"]["lam"] == 1 and aligned.record["config"]["lam"] == 9
    assert headline_networks.by_seed(networks, CNN, aligned=True)[1]["gfa-deep"] is headline_networks.by_seed(networks, CNN)[1]["gfa-deep"]
    for one in scoreboard.judge(networks, None):
        was = before[one.claim.id]
        assert one.verdict == was.verdict and "aligned" not in one.paper_protocol, "the chosen setting is the kinder one"
        assert [bar.measured and bar.measured.mean for bar in one.bars] == [bar.measured and bar.measured.mean for bar in was.bars]
    for seed in (1, 2, 3):
        for name in folder.glob(f"*gfa-first*lam9*seed{seed}*"):
            shutil.rmtree(name) if name.is_dir() else name.unlink()
        write(folder, "gfa-first", seed, lam=9.0, survive=N, distance=100.0 + seed, rise=0.01 * seed, alignment=0.3)
        write(folder, "gfa-first", seed, wrong=4, survive=20, distance=1.0, rise=2.0)
    found = {f.claim.id: f for f in scoreboard.judge(headline_networks.read_all(folder), None)}
    for claim in ("C1", "C3", "C5"):
        assert found[claim].paper_protocol.startswith("GFA's aligned setting: "), claim
    assert found["C3"].verdict == "reproduced" and found["C8"] == before["C8"]

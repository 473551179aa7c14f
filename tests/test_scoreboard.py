"""From files of networks to the quantities of the claims and the front page, on made-up networks whose answers are known."""

import json
from dataclasses import replace

import numpy as np
import pytest

from deepdefense import objectives
from deepdefense.evaluation.report import Outcome, Report
from deepdefense.storage import files
from deepdefense.training import TrainConfig
from replication import networks as headline_networks
from replication import records, scope
from replication.chapters import gradient_attacks, headline, minimum_norm
from replication.claims import quantities, scoreboard
from replication.claims.quantities import ALIGNMENTS

CNN, N = ("cifar10", "cnn"), 20
COST = {"images": N, "seconds": 1.0, "forward": 1, "backward": 1}


def outcome(success, distance=None):
    success = np.asarray(success)
    far = np.where(success, 0.01, np.inf) if distance is None else np.asarray(distance, float)
    arrays = dict(attacked=np.ones(N, bool), success=success, prediction=np.where(success, 1, 0), linf=far, l2=far, loss=np.zeros(N))
    return Outcome(**arrays, cost=COST, settings="made up", bounded=distance is None)


def first(k):
    """The first k of N images."""
    return np.arange(N) < k


def write(folder, defence, seed, *, wrong=0, survive=0, distance=1.0, status="finished", alignment=0.0, rise=1.0):
    """A network that is wrong on the first `wrong` images; the last `survive` images survive everything."""
    run = TrainConfig(data=CNN[0], model=CNN[1], objective=defence, lam=1.0 if defence.startswith(("gfa", "gnr")) else 0.0, seed=seed)
    prediction, broken = np.where(first(wrong), 1, 0), ~first(N)[::-1] if survive == N else first(N - survive)
    label = np.zeros(N, int)
    record = {
        "kind": "training", "name": run.name(), "status": status, "config": run.to_dict(), "wall_time_s": 3600.0,
        "metrics": {"last": {"test_accuracy": 1 - wrong / N, "test_alignment": {"conv1": alignment}}},
        "environment": {"device": "cpu (test)", "commit": "abc"}, "data": {"train": 100},
    }  # fmt: skip
    files.write_json(folder / f"{run.name()}.json", record)
    about = {"norm": "linf", "eps": 8 / 255, "warnings": [], "name": run.name()}
    linf = {"paper/FGSM": outcome(broken), "standard/APGD-CE": outcome(broken), "adaptive/PGD mse": outcome(broken)}
    Report(label, prediction, linf, about).write(folder / f"{run.name()}.report-last-linf")
    far = {key: outcome(first(N), np.full(N, distance)) for key in quantities.DISTANCE_ATTACKS}
    Report(label, prediction, far, about | {"norm": "l2", "eps": 0.5}).write(folder / f"{run.name()}.report-last-l2")
    swept = {"label": label, "prediction": prediction}
    right = prediction == label
    for name in gradient_attacks.SWEPT:
        swept |= {f"{name}/{level}": right & (~broken | (level < 8)) for level in scope.LEVELS}
    where = folder / f"{run.name()}.measures-last"
    files.write_bytes(where / "sweep.parquet", records.write_sweep(swept))
    layer = {"mean": alignment, "mean_abs": abs(alignment)}
    geometry = {"alignment": {"layers": {"conv1": layer, "fc": layer}}}
    geometry["rise"] = {loss: {"tangential": {"mean": rise}} for loss in ("mse", "margin")}
    measured = {"kind": "measures", "name": run.name(), "training": {"config": run.to_dict()}, "geometry": geometry}
    files.write_json(where / "measures.json", measured)


@pytest.fixture
def folder(tmp_path):
    """Three seeds: GFA-FIRST keeps 4 more of 20 images than PGD and is wrong on 2, DEEP keeps as many as PGD."""
    where = tmp_path / "cpu"
    for seed in (1, 2, 3):
        write(where, "standard", seed)
        write(where, "gnr", seed)
        write(where, "pgd-at", seed, survive=10, distance=2.0, alignment=-0.1, rise=0.5)
        write(where, "gfa-first", seed, wrong=2, survive=14, distance=30.0, rise=0.25)
        write(where, "gfa-deep", seed, survive=10, distance=3.0, rise=0.75)
    return where


def test_quantities_are_the_plans(folder):
    seed = headline_networks.by_seed(headline_networks.read_all(folder), CNN)[1]
    assert quantities.common(seed).sum() == N - 2
    assert quantities.survival(seed, "pgd-at", "APGD-100", 8) == pytest.approx(10 / 18)
    assert quantities.paper_gap(seed, "gfa-first", "APGD-100", 8) == pytest.approx(100 * 4 / 18)
    assert quantities.paper_gap(seed, "gfa-first", "FGSM", 4) == pytest.approx(0), "nothing is broken below 8/255"
    assert quantities.strict_gap(seed, "gfa-first") == pytest.approx(20) and quantities.strict_gap(seed, "gfa-deep") == pytest.approx(0)
    assert quantities.paper_ratio(seed, "gfa-first", "paper/DeepFool") == pytest.approx(30)
    assert quantities.paper_ratio(seed, "gfa-first", "paper/EADEN", "pgd-at") == pytest.approx(15)
    assert quantities.strict_ratio(seed, "gfa-deep") == pytest.approx(3)
    assert quantities.rise_ratio(seed, "gfa-first") == pytest.approx(0.25)
    assert [quantities.alignment_gap(seed, kind) for kind in ALIGNMENTS[:3]] == pytest.approx([-0.1, 0.1, -0.1])


def test_a_failed_attack_is_no_distance_and_an_infinite_one(folder):
    network = headline_networks.of(headline_networks.read_all(folder), CNN, "gfa-deep")[0]
    report = network.reports["l2"]
    found = {key: replace(one, l2=np.where(first(12), np.inf, one.l2)) for key, one in report.outcomes.items()}
    replace(report, outcomes=found).write(folder / f"{network.name}.report-last-l2")
    seed = headline_networks.by_seed(headline_networks.read_all(folder), CNN)[1]
    assert len(quantities.paper_distances(seed, "paper/DeepFool", "gfa-deep")) == 8
    assert np.median(quantities.strict_distances(seed["gfa-deep"])) == np.inf
    assert minimum_norm.distance_table(headline_networks.read_all(folder), CNN).loc["GFA-DEEP", "failures"] == "12 of 60"


def test_the_scoreboard_says_what_the_rules_say(folder):
    timing = {"rows": [{"contestant": name, "ratio": dict(q25=a, median=a, q75=a)} for name, a in
                       (("GFA-FIRST", 2.0), ("GFA-DEEP", 2.2), ("PGD-7", 5.8))]}  # fmt: skip
    found = {one.claim.id: one for one in scoreboard.judge(headline_networks.read_all(folder), timing)}
    assert {key: one.verdict for key, one in found.items()} == {
        "C1": "reproduced", "C2": "reproduced", "C3": "reproduced", "C4": "reproduced", "C5": "reproduced",
        "C6": "partly reproduced", "C7": "reproduced", "C8": "partly reproduced",
    }  # fmt: skip
    assert "fixed: +22.2 points [+22.2, +22.2] (3 seeds), GFA-FIRST at 8/255" in found["C1"].paper_protocol
    assert found["C1"].strict == "+20.0 points [+20.0, +20.0] (3 seeds), GFA-FIRST"
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
    with pytest.raises(files.ResultsError, match="make reproduce PROFILE=cpu"):
        headline_networks.read_all(tmp_path / "cpu")


def test_full_results_take_the_place_of_reduced_ones(folder):
    root = folder.parent
    (root / "search").mkdir()
    (root / "search" / "a.json").write_text(json.dumps({"kind": "training", "wall_time_s": 7200, "environment": {"device": "gpu"}}))
    text = scoreboard.text(root)
    assert "(reduced scale)" in text and "1 runs of the search (2.0 h of training), 15 headline runs" in text
    folder.rename(root / "paper")
    assert records.headline_folder(root) == root / "paper" and "(reduced scale)" not in scoreboard.text(root)


def test_tables_and_figures_of_the_chapters(folder):
    networks = headline_networks.read_all(folder)
    assert headline_networks.present(networks) == [CNN]
    runs = headline.runs_table(networks)
    assert runs.loc[("CNN, CIFAR-10", "GFA-FIRST"), "clean (%)"] == "90.0 ± 0.0" and list(runs["seeds"]) == ["1, 2, 3"] * 5
    table = gradient_attacks.accuracy_table(networks, CNN)
    assert table.loc["GFA-FIRST", "worst case"] == "70.0 ± 0.0" and table.loc["plain", "APGD-100"] == "0.0 ± 0.0"
    assert "20 test images" in gradient_attacks.numbers_of_images(networks, CNN)
    assert gradient_attacks.gaps_table(networks, {"APGD-100": 15.2}).iloc[0]["by the rule"] == "reproduced"
    assert minimum_norm.ratio_table(networks).shape[0] == 4
    assert len(gradient_attacks.eps_curves(networks, CNN).axes) == 3 and minimum_norm.distance_curves(networks).axes


def test_the_headline_defences_are_objectives():
    assert set(scope.DEFENCES) <= set(objectives.OBJECTIVES)

"""Chapter 7 says in words what the committed records of the checked models say in numbers; here are the words as inequalities."""

import json

import matplotlib
import numpy as np
import pyarrow.parquet as pq
import pytest

from deepdefense.evaluation.report import Report
from deepdefense.storage import files, paths
from replication.chapters import checked as checked_module
from replication.records import AGREEMENT_PARQUET

matplotlib.use("Agg")
ROOT = paths.results_root() / "checked"
MODELS = {one.name: one for one in checked_module.load()}
FOOLBOX_ADDS = 1.02e-4  # to the distance: 10⁻⁴ a step "for numerical stability", times the overshoot; one to three steps
every_model = pytest.mark.parametrize("name", MODELS)


def test_the_three_models_are_there():
    assert {"plain-cnn", "pgd-cnn", "resnet18"} <= set(MODELS)
    assert MODELS["resnet18"].report["attacks"]["standard/APGD-CE"]["accuracy"] == 0
    assert {one.report["eps"] for name, one in MODELS.items() if "-eps" not in name} == {8 / 255}


@every_model
def test_autoattack_is_the_authors_image_by_image(name):
    auto, n = MODELS[name].agreement["autoattack"], MODELS[name].agreement["n"]
    assert auto["identical images"] == auto["broken by the same part"] == n and auto["largest difference of a pixel"] == 0
    assert len(auto["parts"]) == (4 if name in ("plain-cnn", "pgd-cnn", "resnet18") else 2)
    for part, accuracy in auto["accuracy"].items():
        assert accuracy["ours"] == accuracy["authors"], part
    table = pq.read_table(ROOT / name / AGREEMENT_PARQUET)
    assert len(table) == n and all(table["identical"].to_pylist())
    assert table["part ours"].to_pylist() == table["part authors"].to_pylist()
    last = auto["parts"][-1]
    assert MODELS[name].report["attacks"][f"standard/{last}"]["accuracy"] == pytest.approx(auto["accuracy"][last]["authors"])


@every_model
def test_apgd_is_within_a_point_of_the_authors(name):
    one = MODELS[name]
    ours = one.report["attacks"]["gradient/APGD-100"]["accuracy"]
    theirs = one.agreement["autoattack"]["accuracy"]["APGD-CE"]["authors"]
    assert abs(ours - theirs) <= 0.01 + 1e-9


@every_model
def test_deepfools_agree(name):
    one = MODELS[name]
    for norm, found in one.agreement["deepfool"].items():
        assert found["failures"] == {"ours": 0, "foolbox": 0} and found["ours larger by more than 5 %"] == 0
        mine, other = found["median"]["ours"], found["median"]["foolbox"]
        assert mine <= 1.02 * other and other <= 1.02 * mine + FOOLBOX_ADDS, norm
        ours, theirs = one.deepfool[f"{norm} ours"], one.deepfool[f"{norm} foolbox"]
        right = ~np.isnan(ours)
        ours, theirs = ours[right], theirs[right]
        assert len(ours) == found["n"] == one.agreement["clean"] and (ours <= 1.05 * theirs).all()
        longer = theirs > 1.05 * ours
        assert longer.sum() == found["foolbox larger by more than 5 %"] and (norm == "linf" or not longer.any())
        assert (theirs[longer] - ours[longer] <= 3 * FOOLBOX_ADDS).all()  # what it adds in three steps


@every_model
def test_the_worst_case_is_autoattacks(name):
    suites = MODELS[name].report["suites"]
    assert suites["standard"]["accuracy"] == MODELS[name].report["worst_case"]["accuracy"]


def test_no_honest_model_is_flagged():
    checked = [one for one in MODELS.values() if one.masking]
    assert {"plain-cnn", "pgd-cnn"} <= {one.name for one in checked}
    for one in checked:
        assert one.masking.failed == (), checked_module.reasons(one)
        assert len(one.masking.made) == 9
    numbers = MODELS["pgd-cnn"].masking[2].numbers
    assert numbers["broken by one loss and not by another"] > 2
    assert numbers["broken by a loss only"] == numbers["broken by a scale only"] == 0


@every_model
def test_the_summary_follows_from_the_images(name):
    report = Report.read(ROOT / name)
    assert json.loads(json.dumps(report.summary())) == files.read_json(ROOT / name / "report.json")
    assert report.about["name"] == MODELS[name].agreement["name"] and len(report.label) == MODELS[name].agreement["n"]
    assert MODELS[name].agreement["model"] == report.about["model"]
    assert not report.about["environment"]["commit"].endswith("-dirty")


def test_tables_and_figure_hold_every_model():
    models, n = list(MODELS.values()), len(MODELS)
    assert len(checked_module.suites_table(models)) == len(checked_module.apgd_table(models)) == n
    assert len(checked_module.deepfool_table(models)) == 2 * n
    assert len(checked_module.accuracy_table(models)) == sum(len(one.agreement["autoattack"]["parts"]) for one in models)
    assert len(checked_module.verdicts_table(models)) == 9
    fig = checked_module.deepfool_ratios(models)
    there = [
        [np.isfinite(one.deepfool[f"{norm} ours"] / one.deepfool[f"{norm} foolbox"]).sum() for one in models] for norm in ("l2", "linf")
    ]
    drawn = [sum(images >= 30 for images in by_model) for by_model in there]
    assert [len(ax.lines) - 1 for ax in fig.axes] == drawn and 0 < drawn[0] < n, "fewer than 30: in the table alone"
    matplotlib.pyplot.close(fig)
    assert list(checked_module.scale_table(models)["n"]) == [one.report["n"] for one in models]
    masked = [one for one in models if one.masking]
    assert len(checked_module.reasons_table(models)) == 9 * len(masked) and len(checked_module.agreement_words(models)) == n


def test_no_records_is_said(tmp_path):
    with pytest.raises(files.ResultsError, match="no records of checked models"):
        checked_module.load(tmp_path)


def test_the_timings_are_of_cifar_and_ours_is_no_slower_than_foolbox():
    record = files.read_json(paths.results_root() / "benchmarks" / "attacks-cifar10.json")
    rows = {(row["attack"], row["by"]): row for row in record["attacks"]}
    assert record["settings"]["data"] == "cifar10" and record["settings"]["images"] == 84
    for attack in ("DeepFool L2", "DeepFool L∞"):
        ours, theirs = rows[attack, "ours"], rows[attack, "foolbox"]
        assert ours["ms"] < theirs["ms"] and ours["forward"] + ours["backward"] < theirs["forward"] + theirs["backward"]
    assert rows["DeepFool L2", "torchattacks"]["success"] < rows["DeepFool L2", "ours"]["success"] == 1
    assert len(checked_module.timings_table(record)) == len(record["attacks"])


def test_what_repeats_on_other_instructions_say():
    """From a record made here: equal weights where nothing changed, and the differences that its rows hold."""
    found = [("as it is", "aa", 0.5), ("as it is, again", "aa", 0.5), ("instructions of AVX2", "bb", 0.504), ("two threads", "cc", 0.498)]
    rows = [{"objective": "standard", "way": way, "weights": weights, "test_accuracy": value} for way, weights, value in found]
    record = {"seed": 1, "rows": rows, "committed": {"standard": {"test_accuracy": 0.49, "environment": {"commit": "0123456789"}}}}
    words, table = checked_module.processors_words(record), checked_module.processors_table(record)
    assert "bit for bit the same weights" in words and "differs by 0.20 to 0.40 points" in words
    assert list(table["weights"]) == ["the same", "the same", "others", "others", "not kept"]
    assert table.index[-1] == ("plain", "record of commit 0123456")
    rows[1]["weights"] = "dd"
    assert "gives other weights." in checked_module.processors_words(record)

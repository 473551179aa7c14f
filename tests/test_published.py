"""Published networks: loaded by name with their record and report, and as robust as the report says."""

import sys

import keep_weights
import numpy as np
import pytest
import torch

from deepdefense import data, models
from deepdefense.evaluation.protocol import evaluate
from deepdefense.storage import files, paths
from deepdefense.training import runs
from replication import networks, profiles


@pytest.fixture
def published(tmp_path):
    """Three networks of digits with their weights: (root of the results, {name: model})."""
    made = {}
    for objective, seed in (("standard", 1), ("standard", 2), ("pgd-at", 1)):
        settings = profiles.make("smoke", objective, seed=seed, width=0.25)
        model = models.build("cnn", (1, 8, 8), 10, width=0.25, seed=seed).eval()
        record = {"kind": "training", "name": settings.name(), "config": settings.to_dict(), "status": "finished"}
        record["data"] = {"classes": [str(digit) for digit in range(10)], "in_shape": [1, 8, 8]}
        files.write_json(tmp_path / "quick" / f"{settings.name()}.json", record)
        content = runs.safetensors.torch.save(model.state_dict(), {"name": settings.name()})
        files.write_bytes(tmp_path / "quick" / f"{settings.name()}{networks.WEIGHTS}", content)
        made[settings.name()] = model
    return tmp_path, made


def test_a_network_is_loaded_exactly_by_its_name_or_its_beginning(published):
    root, made = published
    x = data.load("digits").test.images()[:20]
    for name, model in made.items():
        found = networks.load(name, root)
        assert torch.equal(found.model(x), model(x)) and found.record["name"] == name and found.report is None
    assert networks.load("digits-cnn-pgd-at", root).record["config"]["objective"] == "pgd-at"
    for name, said in (("digits-cnn-standard", "several begin so: "), ("magic", "there is no such one: digits"), ("", "there is no such")):
        with pytest.raises(ValueError, match=said):
            networks.load(name, root)
    with pytest.raises(ValueError, match="none is"):
        networks.load("a", root / "quick")


def test_weights_that_are_kept_stay_where_the_runs_are_elsewhere(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DEEPDEFENSE_RUNS", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["keep_weights.py"])
    before = {path: path.stat().st_mtime_ns for path in paths.results_root().glob(f"*/*{networks.WEIGHTS}")}
    assert keep_weights.main() == 0 and f"{len(before)} networks" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in before} == before
    monkeypatch.setattr(sys, "argv", ["keep_weights.py", "--seeds", "1", "2", "--most", "1000"])
    with pytest.raises(SystemExit):
        keep_weights.main()
    assert "no finished run is in" in capsys.readouterr().err


def test_committed_weights_are_small_enough():
    there = networks.published_networks()
    assert sum((n.where / f"{n.name}{networks.WEIGHTS}").stat().st_size for n in there) < 30e6


def test_a_published_robust_accuracy_is_that_of_the_committed_weights():
    """On the smallest published network whose images are here: the gradient suite leaves what its report says, image by image."""
    attacked = [n for n in networks.published_networks() if "linf" in n.reports and n.sweep]
    there = [n for n in attacked if (paths.data_root() / f"{n.pair[0]}.npz").is_file()]
    if not there:
        pytest.skip("no network is published whose images are here; set DEEPDEFENSE_DATA to a folder with cifar10.npz or fashion_mnist.npz")
    network = min(there, key=lambda n: n.record["parameters"])
    one = networks.load(network.name)
    test = data.load(network.pair[0]).test[: min(200, len(one.report.label))]
    right = one.model(test.images()).argmax(1).eq(test.y).numpy()
    assert np.array_equal(right, one.report.clean[: len(test)]), "the clean decisions of the report"
    found = evaluate(one.model, test.images(), test.y, eps=one.report.about["eps"], suites="gradient", progress=False)
    survivors = one.report.robust()[: len(test)]
    assert not (survivors & ~found.robust()).any(), "no survivor falls to a weaker attack"
    swept = {name: column[: len(test)] for name, column in network.sweep.items()}
    level = round(255 * one.report.about["eps"])
    assert np.array_equal(found.robust("gradient/FGSM"), swept[f"FGSM/{level}"] & (swept["prediction"] == swept["label"]))

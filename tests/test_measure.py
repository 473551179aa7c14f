"""What is measured of a run: a record of finite numbers, the same each time, lengths in image units, nothing half-written."""

import json
import math

import numpy as np
import pytest
import torch
from measured import run
from nets import digits
from torch import nn

from deepdefense import models
from deepdefense.models import Classifier
from deepdefense.storage import files
from replication import records
from replication.claims import measured as claims_measured
from replication.experiments import measure

N = 6


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "measures"
    one, split = run(), digits(20, 20, N).test
    return one, split, folder, measure.measure_run(one, split, folder=folder)


def numbers(value):
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from numbers(item)
    elif isinstance(value, float):
        yield value


def test_the_record_is_json_of_finite_numbers_and_is_what_lies_in_the_folder(measured):
    one, split, folder, record = measured
    assert files.read_json(folder / "measures.json") == record == json.loads(json.dumps(record, allow_nan=False))
    assert sorted(path.name for path in folder.iterdir()) == ["measures.json", "sweep.parquet"]
    assert all(math.isfinite(number) for number in numbers(record))
    assert record["kind"] == "measures" and record["name"] == one.name and record["n"] == record["geometry"]["n"] == N


def test_a_second_time_gives_the_same(measured):
    one, split, _, record = measured
    again = measure.measure_run(one, split)
    assert again["geometry"] == record["geometry"] and again["sweep"] == record["sweep"]
    other = measure.measure_run(one, split, seed=1)["geometry"]
    assert other["alignment"] == record["geometry"]["alignment"] and other["directions"] != record["geometry"]["directions"]


def test_accuracies_are_those_of_the_sweep(measured):
    *_, folder, record = measured
    found = records.read_sweep(folder / "sweep.parquet")
    assert record["sweep"]["accuracy"] == {key: float(np.mean(v)) for key, v in found.items() if "/" in key}
    assert (found["label"] == found["prediction"]).mean() == record["geometry"]["accuracy"]


def test_parts_of_the_record_agree_with_each_other(measured):
    geometry = measured[-1]["geometry"]
    for loss in measure.LOSSES:
        centre = len(measure.GRID) // 2
        assert geometry["landscape"][loss][centre][centre] == pytest.approx(geometry["loss"][loss]["mean"], rel=1e-4)
        here = len(measure.DISTANCES) // 2
        for along in geometry["profiles"]["along"].values():
            assert along[loss]["mean"][here] == pytest.approx(0, abs=1e-6)
        for within in ("tangential", "radial"):
            assert 0 <= geometry["rise"][loss][within]["mean"] <= geometry["rise"][loss]["all"]["mean"] * (1 + 1e-3)
    inputs = next(iter(geometry["alignment"]["layers"].values()))
    assert inputs["mean"] == geometry["alignment"]["input"]["mse"]["mean"]
    assert geometry["directions"]["training residual"]["alignment"]["mean"] == pytest.approx(inputs["mean"], abs=1e-5)
    assert geometry["gradient"]["tangential"]["mean"] <= geometry["gradient"]["length"]["mean"]


def test_image_by_image_is_what_the_means_are_of(measured):
    geometry = measured[-1]["geometry"]
    images = geometry["images"]
    assert images["label"] == measured[1].y.tolist() and np.mean(images["right"]) == geometry["accuracy"]
    assert all(margin > 0 for margin, right in zip(images["margin"], images["right"], strict=True) if right)
    assert -np.mean(images["margin"]) == pytest.approx(geometry["loss"]["margin"]["mean"], rel=1e-4)
    for loss in ("mse", "margin"):
        assert np.mean(images["rise"][loss]) == pytest.approx(geometry["rise"][loss]["tangential"]["mean"], rel=1e-4)
    assert np.mean(images["alignment"]) == pytest.approx(geometry["alignment"]["input"]["mse"]["mean"], rel=1e-4)


def test_the_share_of_an_image_is_that_of_its_own_margin_whatever_the_logits_scale():
    """The same linear network with its logits doubled: another rise, the same shares, and the control says 1."""
    split, found = digits(20, 20, N).test, []
    for scale in (1, 2):
        model = linear("symmetric")
        with torch.no_grad():
            for parameter in model.body[1].parameters():
                parameter.mul_(scale)
        found.append({"name": str(scale), "geometry": measure.geometry(model, split.images(), split.y, eps=0.1)})
    rises = [np.array(one["geometry"]["images"]["rise"]["margin"]) for one in found]
    assert rises[1] == pytest.approx(2 * rises[0], rel=1e-4) and rises[0].min() > 0
    values, counted = claims_measured.share_ratio(*found)
    right = found[0]["geometry"]["images"]["right"]
    assert counted.tolist() == right and values[counted] == pytest.approx(1, rel=1e-4)


def test_the_landscapes_first_axis_is_the_radius_and_its_second_the_tangential_gradient(measured):
    """One row and one column of the grid are the profiles along those directions (of all images, for there are few)."""
    geometry = measured[-1]["geometry"]
    middle, step = len(measure.GRID) // 2, 2  # every second distance of the profiles is on the grid
    level = geometry["loss"]["mse"]["mean"]
    grid, along = np.array(geometry["landscape"]["mse"]), geometry["profiles"]["along"]
    for values, direction in ((grid[:, middle], "radial"), (grid[middle], "tangential gradient")):
        assert np.allclose(values - level, along[direction]["mse"]["mean"][::step], atol=1e-4)


def linear(scaling):
    """The same function of the image, with the origin at mid-grey or at black."""
    W = torch.randn(10, 64, generator=torch.Generator().manual_seed(0))
    shift, scale = {"symmetric": (0.5, 0.5), "unit": (0.0, 1.0)}[scaling]
    layer = nn.Linear(64, 10)
    with torch.no_grad():
        layer.weight.copy_(W * scale)
        layer.bias.copy_(W.sum(1) * (shift - 0.5))
    return Classifier(nn.Sequential(nn.Flatten(), layer), (1, 8, 8), [shift], [scale])


def test_lengths_are_in_image_units_whatever_the_scaling_and_radial_depends_on_the_origin():
    split = digits(20, 20, N).test
    found = {}
    for scaling in ("symmetric", "unit"):
        found[scaling] = measure.geometry(linear(scaling), split.images(), split.y, eps=0.1)
    one, other = (found[scaling]["rise"]["margin"] for scaling in ("symmetric", "unit"))
    assert one["all"]["mean"] == pytest.approx(other["all"]["mean"], rel=1e-4)
    attacked = [found[scaling]["attacks"]["margin"]["margin whole"]["mean"] for scaling in ("symmetric", "unit")]
    assert attacked[0] == pytest.approx(attacked[1], rel=1e-4) and attacked[0] > 0
    assert one["radial"]["q75"] != pytest.approx(other["radial"]["q75"], rel=0.05)


def test_an_mlp_is_measured_too():
    split = digits(20, 20, 4).test
    mlp = models.build("mlp", (1, 8, 8), 10, width=0.05, seed=0)
    found = measure.geometry(mlp, split.images(), split.y, eps=0.1)
    assert list(found["alignment"]["layers"]) == ["body.fc1", "body.fc2", "body.fc3"] and found["coordinates"]["dimension"] == 64


def test_the_gradient_is_that_of_the_loss_the_network_was_trained_on():
    one, split = run("pgd-at", loss="ce"), digits(20, 20, 4).test
    record = measure.measure_run(one, split)
    assert record["loss_of_gradient"] == "ce"
    aligned = record["geometry"]["alignment"]
    inputs = next(iter(aligned["layers"].values()))
    assert inputs["mean"] == aligned["input"]["ce"]["mean"] != aligned["input"]["mse"]["mean"]


def test_a_network_that_answers_nan_leaves_no_files(tmp_path):
    broken = run()
    with torch.no_grad():
        broken.last.body.fc2.bias.fill_(math.nan)
    with pytest.raises(ValueError, match="not finite"):
        measure.measure_run(broken, digits(20, 20, 4).test, folder=tmp_path / "measures")
    assert not (tmp_path / "measures").exists()


def test_unknown_weights_are_named():
    with pytest.raises(ValueError, match="which must be 'last' or 'best', got 'final'"):
        measure.measure_run(run(), digits(20, 20, 4).test, which="final")


def test_summary():
    values = torch.tensor([4.0, 1.0, 3.0, 2.0, 10.0])
    found = measure.summary(values)
    assert found == {"mean": 4.0, "sd": pytest.approx(values.numpy().std()), "q25": 2.0, "median": 3.0, "q75": 4.0}
    for bad in (math.nan, math.inf):
        with pytest.raises(ValueError, match="1 of 2 values are not finite"):
            measure.summary(torch.tensor([1.0, bad]))


def test_rounded():
    value = {"a": [1.23456789, {"b": 1234567.89}], "c": 3, "d": "1.23456789", "e": None, "f": True, "g": -1.23456789e-12}
    assert measure.rounded(value) == {
        "a": [1.23457, {"b": 1234570.0}], "c": 3, "d": "1.23456789", "e": None, "f": True, "g": -1.23457e-12,
    }  # fmt: skip


def test_the_name_of_the_folder_says_which_weights_images_and_seed():
    assert records.measures_folder("best", 500, 3) == "measures-best-n500-seed3"

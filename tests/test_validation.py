"""What every epoch records of the alignment: both means against their definitions, and the identity behind the weighted one."""

from dataclasses import replace

import pytest
import torch
from nets import Normalised, digits, images, seeded

from deepdefense import models, training
from deepdefense.gfa import layer_gradients, measure_alignment
from deepdefense.losses import get_loss
from deepdefense.training import TrainConfig, validation
from replication import records

SMALL = TrainConfig(model="mlp", width=0.05, epochs=1, batch_size=50, lr=5e-3, val_size=30, val_steps=2, val_eps=0.1)


def net():
    return models.build("cnn", (1, 6, 6), 3, width=0.1, seed=0).double()


@pytest.mark.parametrize("loss", ["mse", "ce"])
def test_the_weighted_alignment_is_the_rate_at_which_the_loss_grows_with_the_weights(loss):
    """Σ ‖h‖ ‖g‖ a = ⟨W, ∂L/∂W⟩ at every weight layer, whatever its bias."""
    model, (x, y) = net(), images(7)
    x = x.double()
    found = validation.mean_alignments(model, x, y, loss, batch_size=3)
    for name, (h, g) in layer_gradients(model, x, y, loss=loss).items():
        total = sum(h[i].norm() * g[i].norm() for i in range(7)).item()
        weight = model.get_submodule(name).weight
        (gradient,) = torch.autograd.grad(get_loss(loss)(model(x), y).sum(), weight)
        assert found[name]["weighted"] * total == pytest.approx((weight * gradient).sum().item(), rel=1e-9)
    expected = measure_alignment(model, x, y, loss=loss)
    assert list(found) == list(expected)
    assert all(found[name]["mean"] == pytest.approx(a.mean().item(), rel=1e-12) for name, a in expected.items())


def test_one_image_with_a_long_gradient_outweighs_many():
    model, (x, y) = net(), images(5)
    x = x.double()
    single = [validation.mean_alignments(model, x[i : i + 1], y[i : i + 1], "mse")["body.conv1"] for i in range(5)]
    assert all(one["mean"] == pytest.approx(one["weighted"], rel=1e-12) for one in single), "of one image both are its alignment"
    both = validation.mean_alignments(model, x, y, "mse")["body.conv1"]
    assert both["mean"] == pytest.approx(sum(one["mean"] for one in single) / 5, rel=1e-12) and both["mean"] != both["weighted"]


@pytest.mark.parametrize(("scale", "expected"), [(0.0, 0.0), (1e30, None)])
def test_without_a_gradient_it_is_zero_and_beyond_all_numbers_none(scale, expected):
    model, (x, y) = net().float(), images(5)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(scale)
    found = validation.mean_alignments(model, x, y, "ce" if scale else "mse")
    first = next(iter(found.values()))
    assert first == {"mean": expected, "weighted": expected}


@pytest.mark.parametrize("objective", ["standard", "pgd-at", "gfa-deep"])
def test_every_history_holds_the_alignments_of_training_and_validation_images(objective):
    options = dict(eps=0.1, alpha=0.05, attack_steps=1) if objective == "pgd-at" else {}
    run = replace(SMALL, objective=objective, augment="crop", lam=0.1 if objective == "gfa-deep" else 0.0, options=options)
    record, model = (done := training.fit(run, dataset=digits(), device="cpu", progress=False)).record, done.last
    row = record["history"][0]
    parts = {"train_subset": digits().train[:500], "val": digits().val[:30]}
    for part, split in parts.items():
        expected = {name: a.mean().item() for name, a in measure_alignment(model, split.images(), split.y, loss=run.loss).items()}
        taps = row[f"{part}_alignment_taps"]
        assert list(taps) == list(expected) and {name: tap["mean"] for name, tap in taps.items()} == pytest.approx(expected)
        assert row[f"{part}_alignment"] == taps["body.fc1"]["mean"] and row[f"{part}_alignment_weighted"] == taps["body.fc1"]["weighted"]
        assert record["data"][f"{part}_alignment"] == len(split)
    assert ("train_alignment" in row) == objective.startswith("gfa"), "the mean over the steps, as trained"


def test_measuring_leaves_the_model_as_it_was():
    model, (x, y) = seeded(lambda: Normalised(classes=3)).float().train(), images(8)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    validation.mean_alignments(model, x, y, "mse")
    assert model.training and all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_records_from_before_are_read_as_they_are():
    rows = [row for record in records.load_records() if record.get("kind") == "training" for row in record["history"] if row["finite"]]
    assert len(rows) > 100 and all("val_alignment" in row for row in rows)

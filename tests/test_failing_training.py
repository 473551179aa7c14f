"""Trainings that fail: divergence and collapse are found, recorded as valid JSON and can be read back."""

import json
import math
from dataclasses import replace

import pytest
import torch
from nets import digits

from deepdefense import training
from deepdefense.training import TrainConfig
from deepdefense.training.validation import accuracy, at_chance

SMALL = TrainConfig(model="mlp", width=0.05, epochs=4, batch_size=50, lr=0.01, val_size=30, val_steps=2, val_eps=0.1)
DIVERGING = replace(SMALL, optimizer="sgd", lr=100.0, schedule="constant")


def fit(run, **options):
    return training.fit(run, **{"dataset": digits(), "device": "cpu", "progress": False, **options})


def strict(folder):
    """run.json, read by a reader that knows no NaN."""

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    return json.loads((folder / "run.json").read_text(), parse_constant=refuse)


@pytest.mark.parametrize("objective", ["standard", "gfa-first", "pgd-at"])
def test_a_loss_that_is_not_finite_ends_the_run(objective, tmp_path):
    run = replace(DIVERGING, objective=objective, lam=0.1 if objective == "gfa-first" else 0.0)
    record = fit(run, folder=tmp_path).record
    assert record == strict(tmp_path) and record["status"] == "diverged" and not record["history"][-1]["finite"]
    assert len(record["history"]) < 4 and record["metrics"]["last"] is None

    def forbidden(*_arguments):
        raise AssertionError("trained again")

    assert fit(run, folder=tmp_path, objective=forbidden).record == record
    if record["best_epoch"] is None:
        assert record["metrics"]["best"] is None
        with pytest.raises(ValueError, match="no best model"):
            training.load_model(tmp_path)


def breaking_at(step, kind):
    """Plain training whose call number `step` gives a loss or a gradient that is not finite."""
    calls = iter(range(10**9))

    def objective(model, x, y, _step):
        logits = model(x)
        loss = (logits - torch.nn.functional.one_hot(y, 10)).square().sum(1).mean()
        if next(calls) == step:
            loss = loss * math.inf if kind == "loss" else loss + (logits * 0).square().sum().sqrt()  # derivative 0 · ∞
        return loss, {}

    return objective


@pytest.mark.parametrize("kind", ["loss", "gradient"])
@pytest.mark.parametrize("step", [0, 9, 15])
def test_divergence_is_found_at_any_step_and_the_best_epoch_is_kept(step, kind, tmp_path):
    """4 steps an epoch: in the first epoch, in the third, and at the very last step, after which no loss is computed."""
    run = fit(SMALL, folder=tmp_path, objective=breaking_at(step, kind))
    record = strict(tmp_path)
    assert record["status"] == "diverged" and [row["finite"] for row in record["history"]] == [True] * (step // 4) + [False]
    if step >= 4:
        assert 1 <= record["best_epoch"] <= step // 4
        best = record["history"][record["best_epoch"] - 1]
        assert accuracy(run.best, digits().val) == pytest.approx(best["val_accuracy"])
        assert all(p.isfinite().all() for p in training.load_model(tmp_path, device="cpu").parameters())


@pytest.mark.parametrize(
    "settings", [dict(width=0.3), dict(batch_size=67), dict(model="cnn"), dict(model="cnn", width=0.3, epochs=2)], ids=str
)
def test_weights_so_large_that_only_validation_overflows_are_a_divergence(settings, tmp_path):
    """After a step or two at this rate the weights are finite, but no longer the losses of the next images."""
    run = replace(DIVERGING, **{"epochs": 1, "batch_size": 100, "val_steps": 1, **settings})
    fit(run, folder=tmp_path)
    assert strict(tmp_path)["status"] == "diverged"


def constant(model, _x, _y, _step):
    """Draws all weights to zero: constant logits, the trivial optimum of the penalty."""
    return sum(p.square().sum() for p in model.parameters()), {}


def test_constant_logits_are_a_collapse(tmp_path):
    run = replace(SMALL, lr=0.2, epochs=5, schedule="constant", warmup=0.5, objective="gfa-first", lam=1.0)
    record = fit(run, folder=tmp_path, objective=constant).record
    assert record["status"] == "collapsed" and record == strict(tmp_path)
    assert record["collapse_epochs"] == [4, 5], "epochs 1 to 3 are within the warm-up"
    assert record["metrics"]["last"]["test_accuracy"] < 0.25


def test_a_run_that_recovers_is_not_collapsed_but_its_bad_epochs_are_named():
    calls = iter(range(10**9))

    def late(model, x, y, _step):
        logits = model(x)
        return torch.nn.functional.cross_entropy(logits, y) * (next(calls) >= 8), {}

    record = fit(replace(SMALL, epochs=10, width=0.2, warmup=0.1), objective=late).record
    assert record["status"] == "finished", [row["val_accuracy"] for row in record["history"]]
    assert record["collapse_epochs"] == [2], "the first is within the warm-up, and training starts with the third"


@pytest.mark.parametrize(
    ("accuracy", "labels", "expected"),
    [
        (0.10, [*range(10)] * 10, True),
        (0.18, [*range(10)] * 10, True),  # 0.1 + 3 · 0.03 = 0.19
        (0.20, [*range(10)] * 10, False),
        (0.90, [0] * 90 + [1] * 10, True),  # always the commonest class
        (0.97, [0] * 90 + [1] * 10, True),
        (0.995, [0] * 90 + [1] * 10, False),
    ],
)
def test_chance_is_the_commonest_class_and_three_standard_deviations(accuracy, labels, expected):
    assert at_chance(accuracy, torch.tensor(labels)) is expected

"""Trainings that fail: divergence and collapse are found, recorded as valid JSON and can be read back."""

import json
import math
from dataclasses import replace

import pytest
import torch
from nets import digits

from deepdefense import training
from deepdefense.training import TrainConfig
from deepdefense.training.step import TrainingStep
from deepdefense.training.validation import accuracy, at_chance, stopped

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
def test_a_loss_that_is_not_finite_ends_the_run(objective, tmp_path, monkeypatch):
    run = replace(DIVERGING, objective=objective, lam=0.1 if objective == "gfa-first" else 0.0)
    record = fit(run, folder=tmp_path).record
    assert record == strict(tmp_path) and record["status"] == "diverged" and not record["history"][-1]["finite"]
    assert len(record["history"]) < 4 and record["metrics"]["last"] is None

    def forbidden(*_arguments):
        raise AssertionError("trained again")

    monkeypatch.setattr(TrainingStep, "__call__", forbidden)
    assert fit(run, folder=tmp_path).record == record
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


def losing_it(after):
    """Plain training for `after` steps, then all weights are drawn to zero."""
    calls = iter(range(10**9))

    def objective(model, x, y, step):
        if next(calls) < after:
            return torch.nn.functional.cross_entropy(model(x), y), {}
        return 10 * constant(model, x, y, step)[0], {}

    return objective


LOSING = replace(SMALL, epochs=12, lr=0.05, width=0.2, schedule="constant", warmup=1.0, objective="gfa-first", lam=1.0)


def test_a_run_that_has_collapsed_for_good_stops_and_says_where(tmp_path):
    """Within the warm-up too: λ only grows."""
    whole = fit(LOSING, objective=losing_it(12)).record
    record = fit(replace(LOSING, stop_at_chance=2), objective=losing_it(12), folder=tmp_path).record
    chance = [row["at_chance"] for row in record["history"]]
    assert record["status"] == "collapsed" and record["stopped_epoch"] == len(chance) < 12 and record == strict(tmp_path)
    assert chance[-3:] == [False, True, True] and record["collapse_epochs"] == [len(chance)]
    assert whole["stopped_epoch"] is None and len(whole["history"]) == 12 and whole["status"] == "collapsed"
    for row, other in zip(record["history"], whole["history"], strict=False):
        assert row["val_accuracy"] == other["val_accuracy"] and row["train_loss"] == other["train_loss"], "but for the end, the same run"
    assert training.load_run(tmp_path, "cpu").record == record


LABELS = torch.arange(10).repeat(20)  # at chance up to 0.1 + 3 · 0.0212


@pytest.mark.parametrize(
    ("n", "epochs", "accuracies", "expected"),
    [
        (None, 12, [0.5] + [0.1] * 10, False),
        (2, 12, [0.5, 0.1], False),
        (2, 12, [0.5, 0.1, 0.1], True),
        (2, 12, [0.5, 0.1, 0.4, 0.1], False),
        (2, 12, [0.5, 0.1, 0.4, 0.1, 0.16], True),
        (1, 12, [0.5, 0.1], True),
        (3, 12, [0.5, 0.1, 0.1], False),
        (2, 12, [0.1] * 3, False),  # slow to start, as adversarial training can be
        (2, 12, [0.1] * 4, True),  # a third is over and nothing was ever learnt
        (2, 12, [0.1, 0.1, 0.1, 0.25, 0.3], False),
        (2, 30, [0.1, 0.18, 0.1, 0.1], False),  # a breath above chance is no learning
        (2, 30, [0.1, 0.2, 0.1, 0.1], True),
        (2, 2, [0.1], False),
        (2, 12, [0.5, 0.1, 0.1, 0.3], False),
    ],
)
def test_when_a_run_is_given_up(n, epochs, accuracies, expected):
    rows = [{"finite": True, "val_accuracy": a, "at_chance": at_chance(a, LABELS)} for a in accuracies]
    run = replace(SMALL, epochs=epochs, stop_at_chance=n)
    assert stopped(run, rows, LABELS) is expected
    assert stopped(run, [*rows, {"finite": False}], LABELS), "a loss that is not finite ends it, whatever was asked"
    assert not stopped(run, [], LABELS)


def test_a_rare_class_is_no_help_to_have_learnt():
    """Of nine in ten that are one class, 0.97 is still chance on so few, and 0.94 is on many, but is not yet to have learnt."""
    many = torch.tensor([0] * 9000 + [1] * 1000)
    rows = [{"finite": True, "val_accuracy": a, "at_chance": at_chance(a, many)} for a in (0.94, 0.9, 0.9)]
    run = replace(SMALL, epochs=30, stop_at_chance=2)
    assert [row["at_chance"] for row in rows] == [False, True, True] and not stopped(run, rows, many)
    assert stopped(run, [rows[0] | {"val_accuracy": 0.96}, *rows[1:]], many)


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

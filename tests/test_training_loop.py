"""The training loop: what decides its outcome, what it says of failures, what it keeps and reads back."""

import json
import math
from dataclasses import replace

import pytest
import torch
from nets import Normalised, digits, seeded

from deepdefense import inference, training
from deepdefense.storage import checkpoint
from deepdefense.training import TrainConfig, config, loop
from deepdefense.training.step import TrainingStep
from deepdefense.training.validation import accuracy, at_chance

SMALL = TrainConfig(model="mlp", width=0.05, epochs=3, batch_size=50, lr=5e-3, val_size=30, val_steps=2, val_eps=0.1)


def fit(run=SMALL, **options):
    return training.fit(run, **{"dataset": digits(), "device": "cpu", "progress": False, **options})


def weights(model):
    return torch.cat([t.detach().flatten().float() for t in model.state_dict().values()])


def timeless(record):
    """A record without what may differ from run to run."""
    history = [{k: v for k, v in row.items() if "seconds" not in k} for row in record["history"]]
    return {k: v for k, v in record.items() if k not in ("environment", "wall_time_s", "train_time_s")} | {"history": history}


@pytest.mark.parametrize("objective", ["standard", "gfa-deep", "pgd-at"])
def test_the_seed_decides_and_nothing_else(objective, tmp_path):
    run = replace(SMALL, objective=objective, lam=0.2 if objective == "gfa-deep" else 0.0, augment="crop")
    torch.manual_seed(1)
    one = fit(run)
    torch.manual_seed(2)
    again, other = fit(run, folder=tmp_path), fit(replace(run, seed=1))
    assert torch.equal(weights(one.last), weights(again.last)) and torch.equal(weights(one.best), weights(again.best))
    assert timeless(one.record) | {"checkpoints": None} == timeless(again.record) | {"checkpoints": None}
    assert not torch.equal(weights(one.last), weights(other.last))


def test_every_epoch_has_an_order_of_its_own():
    seen = []

    def objective(model, x, y, _step):
        seen.append(x.sum((1, 2, 3)))
        return model(x).square().mean(), {}

    fit(objective=objective)
    first, second, third = (torch.cat(seen[4 * epoch : 4 * epoch + 4]) for epoch in range(3))
    assert torch.equal(first.sort().values, second.sort().values)
    assert not torch.equal(first, second) and not torch.equal(second, third)


def test_a_network_that_draws_numbers_is_repeatable_too():
    finals = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        finals.append(weights(fit(model=seeded(lambda: Normalised(dropout=0.5)).float()).last))
    assert torch.equal(*finals)


def test_the_history_is_what_it_says():
    run = fit(replace(SMALL, objective="gfa-first", lam=0.4, warmup=0.5, epochs=4))
    rows, last = run.record["history"], run.record["history"][-1]
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4] and all(row["finite"] for row in rows)
    assert [row["lam"] for row in rows] == pytest.approx([0.2, 0.4, 0.4, 0.4])
    assert last["val_accuracy"] == pytest.approx(accuracy(run.last, digits().val))
    assert last["train_loss"] == pytest.approx(last["train_task"] + 0.4 * last["train_penalty"], rel=1e-5)
    assert run.record["metrics"]["last"]["test_accuracy"] == pytest.approx(accuracy(run.last, digits().test))
    assert run.record["metrics"]["best"]["test_accuracy"] == pytest.approx(accuracy(run.best, digits().test))
    assert run.record["data"]["train"] == 200 and run.record["name"] == run.name
    assert not run.last.training and not run.best.training


@pytest.mark.parametrize(
    ("warmup", "progress", "share"),
    [(0.0, 0.0, 1), (0.0, 1.0, 1), (0.5, 0.0, 0), (0.5, 0.125, 0.25), (0.5, 0.5, 1), (0.5, 0.9, 1), (1.0, 0.3, 0.3), (1.0, 1.0, 1)],
)
def test_lam_rises_over_the_warm_up(warmup, progress, share):
    assert loop.warmed_lam(replace(SMALL, lam=3.0, warmup=warmup), progress) == pytest.approx(3 * share)


@pytest.mark.parametrize(("schedule", "expected"), [("cosine", [1, 0.75, 0.5, 0.25, 0]), ("constant", [1, 1, 1, 1, 1])])
def test_the_learning_rate_schedule(schedule, expected):
    run = replace(SMALL, lr=0.4, schedule=schedule)
    shares = [loop.learning_rate(run, progress) / 0.4 for progress in (0, 1 / 3, 0.5, 2 / 3, 1)]
    assert shares == pytest.approx(expected)


def test_an_objective_of_ones_own():
    seen = []

    def objective(model, x, y, step):
        assert model.training and x.shape[1:] == (1, 8, 8) and len(x) == len(y)
        assert isinstance(step.generator, torch.Generator)
        seen.append(step.lam)
        loss = model(x).square().mean()
        return loss, {"number": 2.0, "tensor": loss}

    run = fit(replace(SMALL, lam=0.8, warmup=1.0, objective="gfa-first"), objective=objective)
    assert seen[:12] == pytest.approx([0.8 * i / 12 for i in range(12)]), "4 steps an epoch, 3 epochs"
    row = run.record["history"][0]
    assert row["train_number"] == 2.0 and row["train_tensor"] == row["train_loss"]


@pytest.mark.parametrize("select_by", config.SELECTIONS)
def test_the_best_epoch_is_the_first_with_the_highest_score(select_by, tmp_path):
    run = fit(replace(SMALL, select_by=select_by, epochs=6, lr=0.1, schedule="constant", seed=1), folder=tmp_path)
    rows = run.record["history"]
    weight = {"clean": (1, 0), "robust": (0, 1), "mean": (0.5, 0.5)}[select_by]
    scores = [weight[0] * row["val_accuracy"] + weight[1] * row["val_robust_accuracy"] for row in rows]
    assert run.record["best_epoch"] == 1 + max(range(6), key=scores.__getitem__) < 6
    best = rows[run.record["best_epoch"] - 1]
    assert accuracy(run.best, digits().val) == pytest.approx(best["val_accuracy"])
    for which, model in (("best", run.best), ("last", run.last)):
        loaded = training.load_model(tmp_path, which, device="cpu")
        assert torch.equal(weights(loaded), weights(model)) and not loaded.training
    with pytest.raises(ValueError, match="'best' or 'last', got 'first'"):
        training.load_model(tmp_path, "first")


def forbidden(*_arguments):
    raise AssertionError("trained again")


def test_a_finished_run_is_read_back_and_other_settings_are_refused(tmp_path, monkeypatch):
    run = fit(folder=tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(TrainingStep, "__call__", forbidden)
    again = fit(folder=tmp_path)
    assert again.record == run.record == json.loads((tmp_path / "run.json").read_text())
    assert torch.equal(weights(again.last), weights(run.last)) and torch.equal(weights(again.best), weights(run.best))
    for name, value in (("lr", 0.01), ("epochs", 4), ("seed", 7), ("objective", "pgd-at")):
        with pytest.raises(ValueError) as error:
            fit(replace(SMALL, **{name: value}), folder=tmp_path)
        words = [f"{name} = {getattr(SMALL, name)!r}", repr(value), str(tmp_path), "another folder"]
        assert all(word in str(error.value) for word in words)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_finished_run_whose_weights_are_gone_is_not_made_up(tmp_path):
    """run.json alone says what came of the training, but nobody has its model any more."""
    run = fit(folder=tmp_path)
    for path in tmp_path.iterdir():
        if path.name != "run.json":
            path.unlink()
    try:
        again = fit(folder=tmp_path)
    except (checkpoint.CheckpointError, ValueError):
        return
    assert torch.equal(weights(again.last), weights(run.last)), "an untrained model under a trained record"


@pytest.mark.parametrize("file", ["state.json", "last-0003.safetensors"])
def test_a_damaged_checkpoint_stops_it_and_nothing_is_deleted(tmp_path, file):
    fit(folder=tmp_path)
    content = (tmp_path / file).read_bytes()
    (tmp_path / file).write_bytes(content[:-20] + bytes([content[-20] ^ 1]) + content[-19:])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(checkpoint.CheckpointError, match=f"{file} is damaged"):
        fit(folder=tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("size", [1, 30, 200])
def test_train_size_takes_the_first_images(size):
    run = fit(replace(SMALL, train_size=size, epochs=1))
    small = replace(digits(), train=digits().train[:size])
    assert run.record["data"]["train"] == size
    assert torch.equal(weights(run.last), weights(fit(replace(SMALL, epochs=1), dataset=small).last))


def test_train_size_beyond_the_data_is_refused():
    with pytest.raises(ValueError, match="train_size must be at most 200 for digits; got 201"):
        fit(replace(SMALL, train_size=201))


def test_devices():
    assert inference.pick_device("cpu").type == "cpu" and inference.pick_device().type in ("cpu", "cuda")
    assert math.isclose(at_chance(0.5, torch.tensor([0, 1] * 50)), True)


def test_a_run_can_start_from_the_plain_one_which_is_kept_beside_it(tmp_path):
    run = replace(SMALL, objective="gfa-first", lam=0.1, start="plain", lr=1e-9)
    alone, kept = fit(run), fit(run, folder=tmp_path / run.name())
    plain = training.load_run(tmp_path / config.reference(run).name(), "cpu")
    assert plain.record["config"]["objective"] == "standard" and plain.record["config"]["start"] == "fresh"
    assert torch.equal(weights(alone.last), weights(kept.last))
    assert torch.allclose(weights(kept.last), weights(plain.last), atol=1e-5), "at this learning rate it stays where it starts"
    assert torch.equal(weights(fit(run, folder=tmp_path / run.name()).last), weights(kept.last))

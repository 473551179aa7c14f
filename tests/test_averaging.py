"""The moving average of the weights: the formula, and that it is the network that is judged, kept and read back."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from nets import Normalised, digits, seeded
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from deepdefense import training
from deepdefense.training import TrainConfig, averaging, runs
from deepdefense.training.validation import accuracy

SMALL = TrainConfig(model="mlp", width=0.1, epochs=3, batch_size=50, lr=0.02, val_size=20, val_steps=1, val_eps=0.1, ema=0.8)


def fit(run=SMALL, **options):
    return training.fit(run, **{"dataset": digits(), "device": "cpu", "progress": False, **options})


def test_it_is_the_formula_over_all_steps_and_training_itself_is_as_without():
    seen = []

    def objective(model, x, y, step):
        seen.append(deepcopy(model.state_dict()))
        return torch.nn.functional.cross_entropy(model(x), y), {}

    model, twin = (seeded(Normalised).float() for _ in range(2))
    run = fit(model=model, objective=objective)
    fit(replace(SMALL, ema=None), model=twin, objective=lambda m, x, y, s: (torch.nn.functional.cross_entropy(m(x), y), {}))
    assert len(seen) == 12 + 1 and run.last is not model, "the last call counts its operations"
    after = [*seen[1:12], model.state_dict()]  # of every step
    for name, value in run.last.state_dict().items():
        assert torch.equal(model.state_dict()[name], twin.state_dict()[name])
        expected = after[0][name]
        for state in after[1:]:
            expected = 0.8 * expected + 0.2 * state[name] if value.is_floating_point() else state[name]
        assert torch.allclose(value, expected, rtol=1e-5, atol=1e-6), name


def test_the_average_is_what_is_judged_kept_and_read_back(tmp_path):
    run = fit(folder=tmp_path, model=None)
    rows = run.record["history"]
    assert accuracy(run.last, digits().val) == pytest.approx(rows[-1]["val_accuracy"])
    assert accuracy(run.best, digits().val) == pytest.approx(rows[run.record["best_epoch"] - 1]["val_accuracy"])
    assert accuracy(run.last, digits().test) == pytest.approx(run.record["metrics"]["last"]["test_accuracy"])
    x = digits().test.images()
    exported = runs.load(run.record, runs.export(tmp_path, tmp_path / "kept.safetensors"))
    for other in (training.load_run(tmp_path, "cpu").last, fit(folder=tmp_path).last, exported):
        assert torch.equal(other(x), run.last(x)) and not other.training
    raw = fit(replace(SMALL, ema=None))
    assert not torch.equal(raw.last(x), run.last(x)) and raw.name != run.name
    with pytest.raises(ValueError, match="ema = 0.8, not 0.9"):
        fit(replace(SMALL, ema=0.9), folder=tmp_path)


class Masked(torch.nn.Linear):
    def __init__(self):
        super().__init__(3, 3)
        self.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
        self.register_buffer("count", torch.tensor(0))


def test_an_infinite_mask_stays_and_a_count_is_taken_over():
    """Where torch's own rule makes NaN of the one and, in fractions cut off, never moves the other."""
    outcomes = []
    for make in (averaging.averaged, lambda m, d: AveragedModel(m, multi_avg_fn=get_ema_multi_avg_fn(d), use_buffers=True)):
        model = Masked()
        average = make(model, 0.9)
        for count in (1, 2, 3):
            model.count.fill_(count)
            average.update_parameters(model)
        outcomes.append((average.module.mask, average.module.count.item()))
    (mask, count), (torchs, torchs_count) = outcomes
    assert torch.equal(mask, model.mask) and count == 3
    assert torchs[1].isnan() and torchs_count == 1, "if torch does it well, its own rule will do"

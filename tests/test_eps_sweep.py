"""Accuracy against eps: exact for two linear classes, monotone where it must be, the same as the protocol's."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from defences import Linear, around_grey, labelled, small_images
from torch import nn

from deepdefense import attacks
from deepdefense.evaluation import protocol
from deepdefense.storage import files
from replication import records, scope
from replication.experiments import eps_sweep

PGD = {"PGD": partial(attacks.pgd, steps=5), "margin": partial(attacks.loss_pgd, steps=20, loss="margin")}
FGSM = {"FGSM": attacks.fgsm}


def test_two_linear_classes_fall_at_their_distances():
    model = Linear(classes=2, dtype=torch.float32)
    x = around_grey(40, dtype=torch.float32)
    x, y = labelled(model, x, wrong=(3, 7))
    distance = model.distance(x, y, "linf")
    found = eps_sweep.sweep(model, x, y, suite=FGSM | {"margin": PGD["margin"]})
    levels = [level for level in scope.LEVELS if not ((distance - level / 255).abs() < 1e-5).any()]
    assert len(levels) >= 4
    for name in ("FGSM", "margin"):
        assert 0 < found[f"{name}/{levels[0]}"].mean() and found[f"{name}/{levels[-1]}"].mean() < found[f"{name}/{levels[0]}"].mean()
        for level in levels:
            assert found[f"{name}/{level}"].tolist() == (distance > level / 255).tolist(), (name, level)


def test_labels_and_predictions_are_the_models_and_a_clean_error_never_survives():
    model, x, y = small_images(wrong=(1, 4))
    found = eps_sweep.sweep(model, x, y, levels=(1, 4), suite=PGD | FGSM)
    assert list(found) == ["label", "prediction", *(f"{name}/{level}" for name in ("PGD", "margin", "FGSM") for level in (1, 4))]
    assert np.array_equal(found["label"], y.numpy())
    assert np.array_equal(found["prediction"], model(x).argmax(1).numpy())
    for key in found:
        if "/" in key:
            assert found[key].dtype == bool and not found[key][[1, 4]].any()


def test_attacks_of_many_steps_never_gain_and_start_at_the_smallest_eps_whatever_the_order():
    model, x, y = small_images(n=20)
    found = eps_sweep.sweep(model, x, y, levels=(16, 1, 4), suite=PGD)
    for name in PGD:
        small, middle, large = (found[f"{name}/{level}"] for level in (1, 4, 16))
        assert not (middle & ~small).any() and not (large & ~middle).any()
    assert found["PGD/1"].sum() > found["PGD/16"].sum()


def test_what_an_attack_of_many_steps_has_broken_stays_broken():
    """This one succeeds at the smallest eps and nowhere else."""
    model = Linear(classes=2, dtype=torch.float32)
    x, y = labelled(model, around_grey(dtype=torch.float32, spread=1e-3))

    def only_small(model, x, y, *, eps, seed=0):
        return attacks.fgsm(model, x, y, eps=eps, seed=seed) if eps < 4.5 / 255 else x

    found = eps_sweep.sweep(model, x, y, levels=(4, 8, 16), suite={"small": only_small})
    broken = ~found["small/4"]
    assert broken.any() and all(np.array_equal(~found[f"small/{level}"], broken) for level in (8, 16))
    anew = eps_sweep.sweep(model, x, y, levels=(4, 8, 16), suite={"FGSM": only_small})
    assert np.array_equal(~anew["FGSM/4"], broken) and anew["FGSM/8"].all()


class Periodic(nn.Module):
    """Two classes by the cosine of the mean: 8/255 away it is class 1, 16/255 away class 0 again."""

    def forward(self, x):
        angle = math.pi * (x.flatten(1).mean(1) - 0.5) * 255 / 8
        return torch.stack([angle.cos(), torch.zeros_like(angle)], 1)


def test_a_single_step_is_tried_at_every_eps_anew_and_may_rise():
    x, y = torch.full((3, 1, 2, 2), 0.501), torch.zeros(3, dtype=torch.int64)
    found = eps_sweep.sweep(Periodic(), x, y, levels=(8, 16), suite=FGSM | {"margin": PGD["margin"]})
    assert not found["FGSM/8"].any() and found["FGSM/16"].all()
    assert not found["margin/8"].any() and not found["margin/16"].any()


@pytest.mark.parametrize("name", ["PGD", "margin"])
def test_one_eps_is_the_robust_accuracy_of_the_protocol(name):
    model, x, y = small_images(n=30)
    for level in (1, 2):
        found = eps_sweep.sweep(model, x, y, levels=(level,), suite={name: PGD[name]}, seed=3)
        assert found[f"{name}/{level}"].mean() == protocol.robust_accuracy(model, x, y, PGD[name], eps=level / 255, seed=3)


def test_the_same_seed_gives_the_same_sweep_and_the_model_is_left_as_it_was():
    model, x, y = small_images()
    model.train()
    once, again = (eps_sweep.sweep(model, x, y, levels=(1, 2), suite=PGD) for _ in range(2))
    assert all(np.array_equal(once[key], again[key]) for key in once)
    assert model.training and all(parameter.requires_grad for parameter in model.parameters())


def test_parquet_gives_back_what_it_was_given(tmp_path):
    model, x, y = small_images()
    found = eps_sweep.sweep(model, x, y, levels=(1,), suite=PGD)
    back = records.read_sweep(files.write_bytes(tmp_path / "sweep.parquet", records.write_sweep(found)))
    assert list(back) == list(found)
    for key, values in found.items():
        assert back[key].dtype == values.dtype and np.array_equal(back[key], values)

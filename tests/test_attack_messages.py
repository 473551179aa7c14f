"""What an attack cannot work with is refused in one sentence, before anything runs."""

import math
import sys
from fractions import Fraction

import numpy as np
import pytest
import torch
from attack_cases import every_attack
from nets import Normalised, images
from torch import nn

from deepdefense import attacks, models
from deepdefense.attacks import autoattack, paper
from deepdefense.evaluation.protocol import robust_accuracy


@every_attack
@pytest.mark.parametrize(
    ("x", "y", "eps", "words"),
    [
        (torch.full((2, 1, 6, 6), 1.5), torch.zeros(2).long(), 0.1, ["[0, 1]", "1.5"]),
        (torch.full((2, 1, 6, 6), -0.1), torch.zeros(2).long(), 0.1, ["[0, 1]", "-0.1"]),
        (torch.full((2, 1, 6, 6), math.nan), torch.zeros(2).long(), 0.1, ["[0, 1]", "nan"]),
        (torch.zeros(2, 1, 6, 6, dtype=torch.uint8), torch.zeros(2).long(), 0.1, ["float", "uint8"]),
        (torch.zeros(6), torch.zeros(6).long(), 0.1, ["(B, ...)", "(6,)"]),
        (torch.zeros(2, 1, 6, 6), torch.zeros(2).long(), 8, ["eps", "[0, 1]", "8"]),
        (torch.zeros(2, 1, 6, 6), torch.zeros(2).long(), -0.1, ["eps", "-0.1"]),
        (torch.zeros(2, 1, 6, 6), torch.zeros(2).long(), math.nan, ["eps", "nan"]),
        (torch.zeros(2, 1, 6, 6), torch.zeros(2), 0.1, ["class indices", "float32"]),
        (torch.zeros(2, 1, 6, 6), torch.zeros(2, 1).long(), 0.1, ["one class index for each of 2 samples", "(2, 1)"]),
        (torch.zeros(2, 1, 6, 6), torch.zeros(3).long(), 0.1, ["one class index for each of 2 samples", "(3,)"]),
        (torch.zeros(2, 1, 6, 6), torch.tensor([True, False]), 0.1, ["class indices", "bool"]),
        (torch.zeros(2, 1, 6, 6), torch.tensor([0, 3]), 0.1, ["class indices", "3"]),
        (torch.zeros(2, 1, 6, 6), torch.tensor([0, -1]), 0.1, ["class indices", "-1"]),
        (torch.zeros(2, 1, 6, 6), torch.tensor([0, -100]), 0.1, ["class indices", "-100"]),
    ],
)
def test_bad_input_is_one_clear_sentence(attack, x, y, eps, words):
    with pytest.raises(ValueError) as error:
        attack(models.build("mlp", (1, 6, 6), 3, width=0.02, seed=0), x, y, eps=eps)
    assert all(word in str(error.value) for word in words), error.value


@every_attack
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32])
def test_labels_of_other_whole_types_do_the_same(attack, dtype):
    model, (x, y) = models.build("mlp", (1, 6, 6), 3, width=0.02, seed=0), images()
    assert torch.equal(attack(model, x, y.to(dtype), eps=0.1), attack(model, x, y, eps=0.1))


@pytest.mark.parametrize(
    ("attack", "options", "word"),
    [
        *[(a, dict(steps=steps), "steps") for a in (attacks.pgd, attacks.apgd, attacks.loss_pgd) for steps in (0, -1, 2.5)],
        *[(a, dict(alpha=alpha), "alpha") for a in (attacks.pgd, attacks.loss_pgd) for alpha in (0, -0.1, math.nan)],
        (attacks.apgd, dict(restarts=0), "restarts"),
        (attacks.loss_pgd, dict(loss="hinge"), "loss must be one of mse, ce, margin"),
    ],
)
def test_bad_settings_are_named(attack, options, word):
    with pytest.raises(ValueError, match=word):
        attack(models.build("mlp", (1, 6, 6), 3, width=0.02, seed=0), *images(), eps=0.1, **options)


class Answers(nn.Module):
    def __init__(self, what):
        super().__init__()
        self.what = what

    def forward(self, x):
        logits = x.flatten(1)[:, :3]
        return {"tuple": (logits, logits), "dict": {"logits": logits}, "scores": logits[:, 0], "classes": (logits > 0).long()}[self.what]


@pytest.mark.parametrize("attack", [attacks.fgsm, attacks.pgd, attacks.apgd, paper.square, paper.pgd_l2])
@pytest.mark.parametrize("what", ["tuple", "dict", "scores", "classes"])
def test_what_is_no_logits_is_refused_by_attacks_of_libraries(attack, what):
    with pytest.raises(ValueError, match="the model must return "):
        attack(Answers(what), *images(), eps=0.1)


@pytest.mark.parametrize("attack", [autoattack.apgd_ce, paper.pgd_l2])
@pytest.mark.parametrize("eps", [Fraction(1, 8), np.array(0.125), np.float16(0.125)])
def test_eps_of_any_kind_of_number(attack, eps):
    model, (x, y) = models.build("mlp", (1, 6, 6), 3, width=0.02, seed=0), images()
    assert torch.equal(attack(model, x, y, eps=eps, steps=3), attack(model, x, y, eps=0.125, steps=3))
    with pytest.raises(ValueError, match="eps must be a number; got '1/8'"):
        attack(model, x, y, eps="1/8")


def test_something_else_than_a_module_is_refused():
    with pytest.raises(ValueError, match=r"torch.nn.Module, got function"):
        attacks.fgsm(lambda x: x.flatten(1), *images(), eps=0.1)


@pytest.mark.parametrize("attack", [attacks.fgsm, attacks.pgd, attacks.apgd])
def test_without_torchattacks_it_says_how_to_install_it(attack, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchattacks", None)
    with pytest.raises(ImportError, match=r"pip install --no-deps torchattacks==3\.5\.1"):
        attack(Normalised(classes=3), *images(), eps=0.1)
    assert attacks.loss_pgd(Normalised(classes=3), *images(), eps=0.1).shape == (6, 1, 6, 6)


@every_attack
@pytest.mark.parametrize("eps", ["0.1", None, True, torch.tensor([0.1, 0.2])])
def test_a_radius_that_is_no_number_is_one_clear_sentence(attack, eps):
    model, (x, y) = models.build("mlp", (1, 6, 6), 3, width=0.02, seed=0), images()
    with pytest.raises(ValueError, match="eps must be a number"):
        attack(model, x, y, eps=eps)


@every_attack
@pytest.mark.parametrize("eps", [np.float32(0.125), torch.tensor(0.125), np.float64(0.125)])
def test_a_radius_may_be_a_scalar_of_numpy_or_torch(attack, eps):
    model, (x, y) = models.build("mlp", (1, 6, 6), 3, width=0.02, seed=0), images()
    assert torch.equal(attack(model, x, y, eps=eps), attack(model, x, y, eps=0.125))


IN_INFERENCE_MODE = [
    "fgsm",
    "pgd",
    "loss_pgd",
    "restarted_pgd",
    "multi_targeted_pgd",
    "tangential_pgd",
    "orthogonal_pgd",
    "smooth_pgd",
    "apgd_ce",
]


@pytest.mark.parametrize("name", [*IN_INFERENCE_MODE, "l2_margin", "ddn", "deepfool_linf"])
def test_within_inference_mode_an_attack_says_so_and_takes_no_model_for_one_without_gradient(name):
    attack, model, (x, y) = getattr(attacks, name), models.build("mlp", (1, 6, 6), 3, width=0.02, seed=0), images()
    options = {"eps": 0.1} if name in IN_INFERENCE_MODE else {}
    with torch.inference_mode(), pytest.raises(ValueError, match=r"called within torch.inference_mode\(\).*call it outside"):
        attack(model, x, y, **options)
    with torch.inference_mode(), torch.inference_mode(False):
        assert attack(model, x, y, **options).shape == x.shape


def test_robust_accuracy_within_inference_mode():
    model, (x, y) = models.build("mlp", (1, 6, 6), 3, width=0.02, seed=0), images()
    with torch.inference_mode(), pytest.raises(ValueError, match=r"called within torch.inference_mode\(\)"):
        robust_accuracy(model, x, y, attacks.loss_pgd, eps=0.1)


@every_attack
def test_images_that_are_no_tensor(attack):
    model, (x, y) = models.build("mlp", (1, 6, 6), 3, width=0.02, seed=0), images()
    with pytest.raises(ValueError, match="x must be a torch.Tensor, got ndarray"):
        attack(model, x.numpy(), y, eps=0.1)

"""What every attack promises: inside the ball and the box, and nothing else in the world changed."""

import gc
import math
import weakref
from functools import partial

import pytest
import torch
from attack_cases import ATTACKS, every_attack
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import Normalised, Plane, global_random_state, images
from torch import nn

from deepdefense import attacks, models


@every_attack
@settings(max_examples=30)
@given(
    st.floats(0, 1, allow_subnormal=False),
    st.integers(0, 2**31 - 1),
    st.integers(1, 5),
    st.sampled_from(["inside", "corners", "constant"]),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_inside_the_ball_and_the_box(attack, eps, seed, batch, kind, dtype):
    x, y = images(batch, seed=seed % 7)
    x = {"inside": x, "corners": x.round(), "constant": torch.full_like(x, 0.5)}[kind].to(dtype)
    model = models.build("mlp", (1, 6, 6), 3, width=0.02, seed=seed % 5).to(dtype)
    kept = x.clone()
    x_adv = attack(model, x, y, eps=eps, seed=seed)
    assert torch.equal(x, kept) and x_adv is not x and x_adv.shape == x.shape and x_adv.dtype == dtype
    assert (x_adv - x).abs().max() <= eps + 1e-6 and x_adv.min() >= 0 and x_adv.max() <= 1
    assert not x_adv.requires_grad


@every_attack
@pytest.mark.parametrize("eps", [0, 0.0, 1 / 255, 8 / 255, 1])
def test_the_ends_of_the_range_of_eps(attack, eps):
    x, _ = images()
    model = models.build("mlp", (1, 6, 6), 3, width=0.02, seed=0)
    x_adv = attack(model, x, model(x).argmax(1), eps=eps)
    gives_up = getattr(attack, "func", None) is attacks.apgd  # it returns the clean image where it finds nothing
    assert torch.equal(x_adv, x) if eps == 0 else gives_up or (x_adv != x).any()


def snapshot(model):
    """All that an attack could change about a model."""
    modes = [m.training for m in model.modules()]
    grads = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    return modes, [p.requires_grad for p in model.parameters()], grads, [t.clone() for t in model.state_dict().values()]


def same(one, other):
    (modes, wanted, grads, values), (modes2, wanted2, grads2, values2) = one, other
    assert modes == modes2 and wanted == wanted2
    assert all(a is b is None or torch.equal(a, b) for a, b in zip(grads, grads2, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(values, values2, strict=True))


class Broken(Normalised):
    def forward(self, x):
        if getattr(self, "calls", 0) >= 2:
            raise RuntimeError("broken on purpose")
        self.calls = getattr(self, "calls", 0) + 1
        return super().forward(x)


@every_attack
@pytest.mark.parametrize("kind", [Normalised, Broken])
def test_model_and_random_state_are_left_alone_also_on_failure(attack, kind):
    model = kind(classes=3, dropout=0.5).train()
    model.norm.eval()
    model.conv.weight.requires_grad_(False)
    x, y = images(8)
    nn.functional.cross_entropy(Normalised.forward(model, x), y).backward()
    before, state = snapshot(model), global_random_state()
    with torch.no_grad():
        try:
            attack(model, x, y, eps=0.1, seed=3)
        except RuntimeError as error:
            assert str(error) == "broken on purpose"
        else:
            assert kind is Normalised or attack is attacks.fgsm, "the failure must have happened"
        assert not torch.is_grad_enabled()
    same(snapshot(model), before)
    assert global_random_state() == state


@every_attack
def test_the_model_is_attacked_in_eval_mode(attack):
    model, seen = Normalised(classes=3, dropout=0.5).train(), []
    model.drop.register_forward_pre_hook(lambda module, _args: seen.append(module.training))
    attack(model, *images(), eps=0.1)
    assert seen and not any(seen) and model.training


@every_attack
def test_the_seed_decides_whatever_the_global_state(attack):
    model, (x, y) = models.build("mlp", (1, 6, 6), 3, width=0.02, seed=0), images(40)
    results = []
    for seed in (1, 1, 2):
        torch.rand(3)
        results.append(attack(model, x, y, eps=0.1, seed=seed))
    assert torch.equal(results[0], results[1])
    draws = attack not in (ATTACKS["fgsm"], ATTACKS["pgd without random start"])
    assert torch.equal(results[0], results[2]) != draws


@pytest.mark.parametrize(
    "attack",
    [attacks.fgsm, ATTACKS["pgd without random start"], partial(attacks.loss_pgd, steps=3, random_start=False)],
)
def test_without_noise_an_image_fares_the_same_in_any_batch(attack):
    model = models.build("cnn", (1, 6, 6), 3, width=0.1, seed=0).double()
    x, y = images(7)
    x = x.double()
    whole = attack(model, x, y, eps=0.1)
    for size in (1, 3):
        parts = [attack(model, a, b, eps=0.1) for a, b in zip(x.split(size), y.split(size), strict=True)]
        assert torch.allclose(torch.cat(parts), whole, atol=1e-9)


@every_attack
def test_a_model_is_let_go_afterwards_also_on_failure(attack):
    for kind in (Normalised, Broken):
        model = kind(classes=3)
        reference, weight = weakref.ref(model), weakref.ref(model.conv.weight)
        try:
            attack(model, *images(8), eps=0.1)
        except RuntimeError:
            pass
        del model
        gc.collect()
        assert reference() is None and weight() is None, f"{kind.__name__} is kept alive"


@every_attack
def test_a_model_without_parameters_and_an_empty_batch(attack):
    x, _ = images(5, (1, 2, 2))
    model = Plane(torch.tensor([1.0, -2.0, 0.5, 1.0]), -0.2)
    assert attack(model, x, torch.zeros(5, dtype=torch.long), eps=0.1).shape == x.shape
    assert attack(model, x[:0], torch.zeros(0, dtype=torch.long), eps=0.1).shape == (0, 1, 2, 2)


@pytest.mark.parametrize("broken", [lambda x: x + 0.2, lambda x: x * math.nan, lambda x: (x + 0.05).clamp(max=2)])
def test_an_attack_that_breaks_its_promise_is_caught(broken):
    from deepdefense.attacks.contract import check_output

    x = torch.full((2, 1, 2, 2), 0.99)
    with pytest.raises(attacks.AttackError, match="test left"):
        check_output(x, broken(x), 0.1, "test")
    assert torch.equal(check_output(x, x - 0.1, 0.1, "test"), x - 0.1)

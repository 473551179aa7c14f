"""What every attack promises: inside the ball and the box, and nothing else in the world changed."""

import gc
import math
import sys
import weakref
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nets import Normalised, Plane, global_random_state, images
from torch import nn

from deepdefense import attacks, models

ATTACKS = {
    "fgsm": attacks.fgsm,
    "pgd": partial(attacks.pgd, steps=3),
    "pgd without random start": partial(attacks.pgd, steps=3, random_start=False),
    "apgd": partial(attacks.apgd, steps=5),
    "apgd with restarts": partial(attacks.apgd, steps=3, restarts=2),
    "loss_pgd": partial(attacks.loss_pgd, steps=3),
    "loss_pgd, last iterate": partial(attacks.loss_pgd, steps=3, keep_best=False, loss="mse"),
}
every_attack = pytest.mark.parametrize("attack", ATTACKS.values(), ids=list(ATTACKS))


@every_attack
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
        (torch.zeros(2, 1, 6, 6), torch.zeros(2, 1).long(), 0.1, ["2 class indices", "(2, 1)"]),
        (torch.zeros(2, 1, 6, 6), torch.zeros(3).long(), 0.1, ["2 class indices", "(3,)"]),
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


@pytest.mark.parametrize(
    ("attack", "options", "word"),
    [
        *[(a, dict(steps=steps), "steps") for a in (attacks.pgd, attacks.apgd, attacks.loss_pgd) for steps in (0, -1, 2.5)],
        *[(a, dict(alpha=alpha), "alpha") for a in (attacks.pgd, attacks.loss_pgd) for alpha in (0, -0.1, math.nan)],
        (attacks.apgd, dict(restarts=0), "restarts"),
        (attacks.loss_pgd, dict(loss="dlr"), "loss must be one of mse, ce, margin"),
    ],
)
def test_bad_settings_are_named(attack, options, word):
    with pytest.raises(ValueError, match=word):
        attack(models.build("mlp", (1, 6, 6), 3, width=0.02, seed=0), *images(), eps=0.1, **options)


def test_something_else_than_a_module_is_refused():
    with pytest.raises(ValueError, match=r"torch.nn.Module, got function"):
        attacks.fgsm(lambda x: x.flatten(1), *images(), eps=0.1)


@pytest.mark.parametrize("attack", [attacks.fgsm, attacks.pgd, attacks.apgd])
def test_without_torchattacks_it_says_how_to_install_it(attack, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchattacks", None)
    with pytest.raises(ImportError, match=r"pip install --no-deps torchattacks==3\.5\.1"):
        attack(Normalised(classes=3), *images(), eps=0.1)
    assert attacks.loss_pgd(Normalised(classes=3), *images(), eps=0.1).shape == (6, 1, 6, 6)


@pytest.mark.parametrize("broken", [lambda x: x + 0.2, lambda x: x * math.nan, lambda x: (x + 0.05).clamp(max=2)])
def test_an_attack_that_breaks_its_promise_is_caught(broken):
    from deepdefense.attacks.guard import check_output

    x = torch.full((2, 1, 2, 2), 0.99)
    with pytest.raises(attacks.AttackError, match="test left"):
        check_output(x, broken(x), 0.1, "test")
    assert torch.equal(check_output(x, x - 0.1, 0.1, "test"), x - 0.1)

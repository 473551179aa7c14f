"""What holds for every attack of every suite: inside the ball and [0, 1], and nothing else in the world changed.

The attacks are taken from the suites' own tables, with fewer steps, so that an attack that is added is tested too.
"""

import inspect
from functools import cache, partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import Normalised, global_random_state, hooks, images, seeded
from test_attacks import same, snapshot
from torch import nn

from deepdefense import attacks
from deepdefense.attacks import paper, suites
from deepdefense.attacks.contract import TOLERANCE, distances, takes_eps

SHAPE, CLASSES = (3, 6, 6), 5
SHORT = {"steps": 3, "queries": 12, "searches": 2, "restarts": 1}


class Reads(Normalised):
    """With an inner weight layer, so that every attack of the adaptive suite applies."""

    def __init__(self):
        super().__init__(channels=SHAPE[0], classes=CLASSES, dropout=0.5)
        self.norm.running_var.fill_(0.05)


def model(seed=0, dtype=torch.float32):
    return seeded(Reads, seed).to(dtype)


def _short(attack):
    parameters = inspect.signature(attack).parameters
    return partial(attack, **{name: value for name, value in SHORT.items() if name in parameters})


@cache
def every_attack():
    """{"suite/attack norm": (attack, norm)} of all suites, in both norms, and of the tables beside them."""
    found, x = {}, images(2, SHAPE, CLASSES)[0]
    for norm in ("linf", "l2"):
        for suite in suites.SUITES:
            found |= {f"{suite}/{name} {norm}": (a, norm) for name, a in suites.suite(suite, model(), x, norm).items()}
    rest = paper.MINIMUM_NORM | suites.MINIMUM["l1"]
    found |= {f"minimum norm/{name}": (attack, "l2") for name, attack in rest.items()}
    given_more = attacks.suite_adaptive(
        model(), x, substitutes={"other": model(9)}, guides=images(4, SHAPE, CLASSES, 8), steps=3, restarts=1
    )
    found |= {f"with more/{name}": (given_more[name], "linf") for name in ("transfer, other", "features, guided")}
    return {name: (_short(attack), norm) for name, (attack, norm) in found.items()}


NAMES = sorted(every_attack())


def test_all_suites_are_here():
    assert {name.split("/")[0] for name in NAMES} == {*suites.SUITES, "minimum norm", "with more"} and len(NAMES) > 35


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=6)
@given(
    eps=st.sampled_from([1 / 255, 8 / 255, 0.3, 1.0]),
    seed=st.integers(0, 2**31 - 1),
    n=st.integers(1, 3),
    kind=st.sampled_from(["inside", "corners", "grey"]),
    double=st.booleans(),
)
def test_inside_the_ball_and_the_range_and_nothing_else_changed(name, eps, seed, n, kind, double):
    attack, norm = every_attack()[name]
    double = double and not name.startswith("with more")  # their guides and substitutes are float32
    net = model(seed % 7, torch.float64 if double else torch.float32).train()
    net.norm.eval()
    net.conv.weight.requires_grad_(False)
    x, y = images(n, SHAPE, CLASSES, seed % 11)
    x = {"inside": x, "corners": x.round(), "grey": torch.full_like(x, 0.5)}[kind].to(net.head.weight.dtype)
    nn.functional.cross_entropy(net(x), y).backward()
    before, state, images_before, labels_before = snapshot(net), global_random_state(), x.clone(), y.clone()
    bounded = takes_eps(attack)
    x_adv = attack(net, x, y, seed=seed, **({"eps": eps} if bounded else {}))
    assert x_adv.shape == x.shape and x_adv.dtype == x.dtype and not x_adv.requires_grad
    assert x_adv.min() >= 0 and x_adv.max() <= 1
    assert not bounded or distances(x, x_adv, norm).max() <= eps + TOLERANCE
    same(snapshot(net), before)
    assert global_random_state() == state and hooks(net) == 0
    assert torch.equal(x, images_before) and torch.equal(y, labels_before)

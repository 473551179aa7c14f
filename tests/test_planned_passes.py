"""The passes of an attack are known before it starts, and they do not grow with the number of classes unless asked to."""

from functools import partial

import pytest
import torch
from nets import images
from torch import nn

from deepdefense import attacks
from deepdefense.attacks import forward_passes, paper, suites
from deepdefense.cost import count_passes


class Firm(nn.Module):
    """Always class 0, by far: no image ever leaves an attack."""

    def __init__(self, classes):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(36, 8), nn.Linear(8, 8), nn.Linear(8, classes)
        with torch.no_grad():
            self.c.weight.mul_(1e-4)
            self.c.bias.copy_(10.0 * nn.functional.one_hot(torch.tensor(0), classes))

    def forward(self, x):
        return self.c(torch.relu(self.b(torch.relu(self.a(x.flatten(1))))))


def counted(attack, model, x, y):
    with count_passes(model) as passes:
        attack(model, x, y, eps=0.1)
    return passes.forward


VARIED = {
    "steps": {"steps": 3},
    "more steps": {"steps": 7},
    "queries": {"queries": 9},
    "restarts": {"steps": 2, "queries": 6, "restarts": 3},
    "targets": {"steps": 2, "targets": 2},
    "last iterate": {"steps": 3, "keep_best": False},
    "clean": {"steps": 3, "at": "clean"},
    "factors": {"steps": 2, "factors": (1.0, 10.0)},
    "betas": {"steps": 2, "betas": (5.0,)},
    "layers": {"steps": 2, "layers": ("c",)},
}


@pytest.mark.parametrize("attack", forward_passes.FORWARD, ids=lambda attack: f"{attack.__module__}.{attack.__name__}")
@pytest.mark.parametrize("classes", [2, 4, 12])
def test_what_is_planned_is_what_it_takes(attack, classes):
    model, (x, _) = Firm(classes), images(1)
    known = attack.__kwdefaults__
    for options in VARIED.values():
        options = {name: value for name, value in options.items() if name in known}
        if any(name in known and name not in options for name in ("steps", "queries")):
            continue
        bound = partial(attack, **options)
        expected = counted(bound, model, x, torch.zeros(1).long())
        assert attacks.planned_passes(bound, model, x) == expected, options


def test_every_bounded_attack_of_the_suites_has_a_plan_and_others_have_none():
    model, (x, _) = Firm(10), images(1)
    for name in ("gradient", "paper", "standard", "adaptive"):
        plans = {key: attacks.planned_passes(attack, model, x) for key, attack in suites.suite(name, model, x).items()}
        assert all(plan is not None for plan in plans.values()), plans
    assert attacks.planned_passes(lambda model, x, y, eps, seed=0: x, model, x) is None
    assert attacks.planned_passes(partial(partial(attacks.pgd, steps=3), steps=5), model, x) == 5, "the outer one counts"


@pytest.mark.parametrize("classes", [10, 100, 1000])
def test_nine_targets_whatever_the_number_of_classes(classes):
    """As AutoAttack's APGD-T, which takes 921 passes an image."""
    model, (x, _) = Firm(classes), images(1)
    for attack in (attacks.apgdt, attacks.apgd_t, attacks.multi_targeted_pgd, paper.fab, attacks.fab_t):
        assert attacks.planned_passes(attack, model, x) == attacks.planned_passes(attack, Firm(10), x)
    assert attacks.planned_passes(attacks.apgd_t, model, x) == 921
    for attack in (attacks.apgdt, attacks.multi_targeted_pgd):
        every = attacks.planned_passes(partial(attack, targets=None), model, x)
        per_target = attacks.planned_passes(partial(attack, targets=2), model, x) - attacks.planned_passes(
            partial(attack, targets=1), model, x
        )
        assert every - attacks.planned_passes(attack, model, x) == per_target * (classes - 10)


@pytest.mark.parametrize("attack", [attacks.apgdt, attacks.multi_targeted_pgd])
def test_ten_classes_have_nine_targets_anyway(attack):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(36, 10))
    x, _ = images(8)
    y = model(x).argmax(1)
    run = partial(attack, model, x, y, eps=0.02, steps=5)
    assert torch.equal(run(), run(targets=None)) and torch.equal(run(), run(targets=50))


@pytest.mark.parametrize("targets", [0, -1, 2.5, "all"])
@pytest.mark.parametrize("attack", [attacks.apgdt, attacks.multi_targeted_pgd])
def test_a_number_of_targets_that_is_none_is_named(attack, targets):
    with pytest.raises(ValueError, match="targets must be a whole number of at least 1"):
        attack(Firm(4), *images(2), eps=0.1, targets=targets)


def test_the_likeliest_classes_are_the_targets():
    """Of twelve classes the nearest is the third likeliest: two targets find it, and it is where the pass counts end."""
    weights = torch.zeros(12, 4)
    weights[2, 0], weights[1, 0] = 10.0, 0.01
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 12))
    with torch.no_grad():
        model[1].weight.copy_(weights)
        model[1].bias.copy_(torch.tensor([1.0, 0.9, 0.5, *[-1.0] * 9]) - weights @ torch.full((4,), 0.5))
    x, y = torch.full((1, 1, 2, 2), 0.5), torch.zeros(1).long()
    for attack in (attacks.apgdt, attacks.multi_targeted_pgd):
        assert model(attack(model, x, y, eps=0.1, steps=10, targets=2)).argmax(1) == 2

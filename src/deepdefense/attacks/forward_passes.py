"""How many passes an attack will take at most, known before it starts: what it costs grows with steps, restarts, classes."""

import inspect
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from ..inference import frozen
from . import autoattack, gradient, hard_label, multi_targeted, paper, projected_gradient
from .contract import Attack, entry
from .features import feature_pgd, inner_layers
from .orthogonal import orthogonal_pgd
from .tangential import tangential_pgd
from .transfer_attacks import smooth_pgd


def _targets(s: SimpleNamespace) -> int:
    wanted = getattr(s, "targets", autoattack.TARGETS)
    return s.classes - 1 if wanted is None else min(wanted, s.classes - 1)


# Of one image: those of the check at the door, of each ascent (its steps and their last iterate), and of who judges them.
FORWARD: dict[Callable, Callable[[SimpleNamespace], int]] = {
    gradient.fgsm: lambda s: 1,
    gradient.pgd: lambda s: s.steps,
    gradient.apgd: lambda s: 1 + s.restarts * (s.steps + 1),
    paper.pgd_l2: lambda s: s.steps,
    paper.apgdt: lambda s: 2 + _targets(s) * s.restarts * (s.steps + 2),
    paper.fab: lambda s: 2 + _targets(s) * s.restarts * (2 * s.steps + 3),
    paper.square: lambda s: 1 + s.restarts * (s.queries + 2),
    autoattack.apgd_ce: lambda s: s.steps + 4,
    autoattack.apgd_t: lambda s: 3 + _targets(s) * (s.steps + 2),
    autoattack.fab_t: lambda s: 3 + _targets(s) * (2 * s.steps + 3),
    autoattack.square: lambda s: s.queries + 5,
    projected_gradient.loss_pgd: lambda s: s.steps + 1 + s.keep_best,
    projected_gradient.restarted_pgd: lambda s: 2 + s.restarts * (s.steps + 2),
    projected_gradient.scaled_pgd: lambda s: 2 + len(s.factors) * (s.steps + 3),
    multi_targeted.multi_targeted_pgd: lambda s: 3 + _targets(s) * s.restarts * (s.steps + 2),
    orthogonal_pgd: lambda s: 3 + s.steps * (2 if s.at == "iterate" else 1),
    tangential_pgd: lambda s: 2 + (s.origin is None) + s.restarts * (s.steps + 2),
    feature_pgd: lambda s: 2 + (s.layers is None) + len(s.layers or s.inner) * (s.steps + 3),
    smooth_pgd: lambda s: 3 + len(s.betas) * (s.steps + 3),
    hard_label.rays: lambda s: s.queries + 1,
}
"""Forward passes of one image, at most, from the attack's settings and the model's `classes` and `inner` layers.

There are as many backward passes at most, but for Square and RayS, which take none."""


def passes_of(attack: Attack, classes: int, inner: int) -> int | None:
    """Forward passes of one image, at most; None for an attack that is not of this table. inner: layers that features are read of."""
    settings: dict[str, object] = {}
    while isinstance(attack, partial):
        settings = attack.keywords | settings
        attack = attack.func
    count = entry(FORWARD, attack)
    if count is None:
        return None
    defaults = {name: p.default for name, p in inspect.signature(attack).parameters.items()}
    return count(SimpleNamespace(**{**defaults, **settings, "classes": classes, "inner": range(inner)}))


def planned_passes(attack: Attack, model: nn.Module, x: Tensor) -> int | None:
    """How many forward passes through `model` an image costs at most; None for an attack that is not of this table.

    attack: a function of `deepdefense.attacks`, settings bound by `functools.partial` or not; x: an image or more
    (B, ...). Exact for an image that stands against everything, given alone; of a batch, the check at the door asks one.
    Costs some passes itself.
    """
    with frozen(model), torch.no_grad():
        classes = model(x[:1]).shape[1]
    return passes_of(attack, classes, len(inner_layers(model, x)))

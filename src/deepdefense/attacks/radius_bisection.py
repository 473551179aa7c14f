"""How far is the nearest mistake in L2? Ascents on spheres around each image, and bisection on the radius.

At a given radius nothing has to be balanced against the distance, and the margin neither saturates nor starves, however large or
small the logits are: cross-entropy does both (DDN on networks trained with squared error). An ascent towards each of the likeliest
other classes finds mistakes that the nearest class hides. Each image is on its own: what fools leaves the batch.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..inference import wrong
from ..losses import margin, targeted_margin
from .linf_ascent import per_image

Value = Callable[[Tensor, Tensor], Tensor]  # (logits (n, K), which images (n,)) -> what to climb (n,)
Found = tuple[Tensor, Tensor]  # the nearest mistake's perturbation (n, ...) and its length (n,), ∞ where there is none
FILLS = 4  # rounds of stretching what [0, 1] leaves free
LAST = 0.05  # the last step of an ascent, as a share of the radius; the first is all of it
LEAST = 1e-4  # the least first radius: a saturated model's linearisation says nothing
INSIDE = 0.99  # where the ascents towards single classes look, as a share of the distance so far


def _length(delta: Tensor) -> Tensor:
    return delta.flatten(1).norm(dim=1)


def on_sphere(x: Tensor, delta: Tensor, radius: Tensor) -> Tensor:
    """`delta` (n, ...) stretched to length `radius` (n,), as far as x + delta in [0, 1] allows; never longer."""
    for _ in range(FILLS):
        longer = delta * per_image(radius / _length(delta).clamp(min=1e-12), x)
        delta = (x + longer).clamp(0, 1) - x
    return delta


def _uphill(view: nn.Module, x_adv: Tensor, y: Tensor, rows: Tensor, value: Value) -> tuple[Tensor, Tensor, Tensor]:
    """(fooled (n,), value (n,), gradient (n, ...)), without what would only push pixels out of [0, 1]."""
    x_adv = x_adv.detach().requires_grad_()
    with torch.enable_grad():
        logits = view(x_adv)
        climbed = value(logits, rows)
        found = torch.autograd.grad(climbed.sum(), x_adv, allow_unused=True)[0] if climbed.requires_grad else None
    gradient = torch.zeros_like(x_adv) if found is None else found.nan_to_num(0, 0, 0)
    stuck = ((x_adv <= 0) & (gradient < 0)) | ((x_adv >= 1) & (gradient > 0))
    return wrong(logits.detach(), y), climbed.detach(), gradient.detach().masked_fill(stuck, 0)


def _ascend(
    view: nn.Module, x: Tensor, y: Tensor, delta: Tensor, radius: Tensor, steps: int, noise: Tensor, value: Value
) -> tuple[Tensor, Tensor]:
    """Climb `value` on spheres of `radius` (n,) from `delta`: (fooled (n,), the last delta). What fools stops there.

    Steps follow the gradient, `noise` where there is none.
    """
    fooled, delta = torch.zeros_like(radius, dtype=torch.bool), on_sphere(x, delta, radius)
    rows = torch.arange(len(x), device=x.device)
    for k in range(steps + 1):
        hit, _, gradient = _uphill(view, x[rows] + delta[rows], y[rows], rows, value)
        fooled[rows[hit]] = True
        rows, gradient = rows[~hit], gradient[~hit]
        if len(rows) == 0 or k == steps:
            break
        length = per_image(_length(gradient), x)
        unit = torch.where(length > 0, gradient / length.clamp(min=1e-30), noise)
        size = radius[rows] * (LAST + (1 - LAST) * (1 + math.cos(math.pi * k / steps)) / 2)
        delta[rows] = on_sphere(x[rows], delta[rows] + per_image(size, x) * unit, radius[rows])
    return fooled, delta


def _towards(target: Tensor, y: Tensor) -> Value:
    return lambda logits, rows: targeted_margin(logits, y[rows], target[rows])


def _nearer(one: Found, fooled: Tensor, delta: Tensor) -> Found:
    """Per image the nearer of what is known and of a new attempt."""
    length = torch.where(fooled, _length(delta), torch.inf)
    return torch.where(per_image(length < one[1], delta), delta, one[0]), torch.minimum(length, one[1])


def _narrow(view, x, y, known: Found, radius: Tensor, count: int, steps: int, noise: Tensor) -> Found:
    """`count` ascents of the margin: at `radius`, at three times as much until one fools, then halfway between."""
    furthest = _length(torch.maximum(x, 1 - x))
    lower, start = torch.zeros_like(radius), known[0]
    for _ in range(count):
        radius = torch.minimum(radius, furthest)
        fooled, ended = _ascend(view, x, y, start, radius, steps, noise, lambda logits, rows: margin(logits, y[rows]))
        known = _nearer(known, fooled, ended)
        lower = torch.where(fooled, lower, torch.maximum(lower, radius))
        none = known[1].isinf()
        start = torch.where(per_image(none, x), ended, known[0])
        radius = torch.where(none, 3 * radius, (lower + known[1]) / 2)
    return known


def bisect_radius(view: nn.Module, x: Tensor, y: Tensor, *, steps: int, searches: int, rivals: int, seed: int) -> Tensor:
    """The nearest mistake found to each of the images x (n, ...), which the model gets right; the image itself if none.

    view: the frozen model; for the other arguments see `minimum_norm.l2_margin`
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    noise = torch.randn(x.shape[1:], generator=generator, device="cpu").to(x)  # the same beside any neighbours
    noise = noise / noise.norm()
    every = torch.arange(len(x), device=x.device)
    _, value, gradient = _uphill(view, x, y, every, lambda logits, rows: margin(logits, y))
    radius = (-value / _length(gradient).clamp(min=1e-12)).nan_to_num(LEAST).clamp(min=LEAST)  # where a linear model errs
    found = torch.zeros_like(x), torch.full_like(radius, torch.inf)
    delta, distance = _narrow(view, x, y, found, radius, searches, steps, noise)

    with torch.no_grad():
        logits = view(x)
    order = logits.scatter(1, y[:, None], -torch.inf).topk(min(rivals, logits.shape[1] - 1)).indices
    for target in order.unbind(1):
        radius = torch.where(distance.isinf(), _length(torch.maximum(x, 1 - x)), INSIDE * distance)
        fooled, ended = _ascend(view, x, y, torch.zeros_like(x), radius, steps, noise, _towards(target, y))
        better = (fooled & (_length(ended) < distance)).nonzero().squeeze(1)
        if len(better):
            found = ended[better], _length(ended[better])
            found = _narrow(view, x[better], y[better], found, 0.9 * found[1], searches // 2, steps, noise)
            delta[better], distance[better] = found
    return (x + delta).clamp(0, 1)

"""The elastic-net attack as foolbox runs it, but each image on its own: one that is finished leaves, whatever its neighbours do.

foolbox (and torchattacks) stop a search when the loss of the whole batch stands still, so an image's result depends on its
neighbours, and without that stop every image is carried through every step. Adapted from foolbox 3.3.4 (MIT).
"""

import math

import torch
from torch import Tensor, nn

from ..inference import wrong
from ..losses import margin
from .linf_ascent import per_image

CHECKS = 10  # how often a search looks whether it still gets on
PROGRESS = 0.9999  # the least progress between two looks: the loss falls to this share of what it was


def _shrink(z: Tensor, x: Tensor, beta: float) -> Tensor:
    """z pulled by beta towards x, pixel by pixel, and not beyond it; in [0, 1]."""
    up = torch.where(z - x > beta, (z - beta).clamp(max=1), x)
    return torch.where(z - x < -beta, (z + beta).clamp(min=0), up)


def _size(x_adv: Tensor, x: Tensor, rule: str, beta: float) -> Tensor:
    """What is to be least, (n,): β‖δ‖₁ + ‖δ‖₂² by the rule "en", ‖δ‖₁ by "l1"."""
    delta = (x_adv - x).flatten(1)
    l1 = delta.abs().sum(1)
    return l1 if rule == "l1" else beta * l1 + delta.square().sum(1)


def _descend(
    view: nn.Module, x: Tensor, y: Tensor, const: Tensor, *, rule: str, steps: int, beta: float, stepsize: float, early: bool
) -> tuple[Tensor, Tensor]:
    """One descent for given const (n,): the smallest success (n, ...) and its size, ∞ where there is none.

    An image leaves when the first step is too small to move it (none of the later ones is larger), and with `early` when a
    tenth of the steps has brought less than a ten-thousandth of its loss.
    """
    best, best_size = x.clone(), torch.full_like(const, torch.inf)
    rows = torch.arange(len(x), device=x.device)  # whose images are still on their way
    x_k = y_k = x
    previous = torch.full_like(const, torch.inf)
    for k in range(steps):
        point = y_k.detach().requires_grad_()
        with torch.enable_grad():
            hinge = const[rows] * torch.relu(-margin(view(point), y[rows])).to(x.dtype)
            gradient = torch.autograd.grad(hinge.sum(), point)[0] if hinge.requires_grad else torch.zeros_like(point)
        clean = x[rows]
        gradient = gradient + 2 * (y_k - clean)
        moved = _shrink(y_k - stepsize * math.sqrt(1 - k / steps) * gradient, clean, beta)
        x_k, y_k = moved, moved + k / (k + 3) * (moved - x_k)
        stays = None
        if k == 0:
            stays = (moved != clean).flatten(1).any(1)
        if early and k % math.ceil(steps / CHECKS) == 0:
            loss = hinge.detach() + (point.detach() - clean).flatten(1).square().sum(1)
            on = loss <= PROGRESS * previous[rows]
            stays, previous[rows] = on if stays is None else stays & on, loss
        if stays is not None and not stays.all():
            rows, x_k, y_k = rows[stays], x_k[stays], y_k[stays]
        if len(rows) == 0:
            break
        with torch.no_grad():
            success = wrong(view(x_k), y[rows])
        size = torch.where(success, _size(x_k, x[rows], rule, beta), torch.inf)
        better = size < best_size[rows]
        best[rows[better]], best_size[rows[better]] = x_k[better], size[better]
    return best, best_size


def elastic_net(
    view: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    rule: str,
    steps: int,
    searches: int,
    beta: float,
    stepsize: float,
    const: float,
    early: bool,
) -> Tensor:
    """The smallest success of `searches` descents from each image, const found by bisection; the image itself if none.

    view: the frozen model; x (n, ...) images that it gets right, y (n,). For the other arguments see `minimum_norm.ead`.
    """
    best, best_size = x.clone(), x.new_full((len(x),), torch.inf)
    consts, lower, upper = x.new_full((len(x),), const), x.new_zeros(len(x)), x.new_full((len(x),), torch.inf)
    for search in range(searches):
        if search == searches - 1 and searches >= 10:
            consts = upper.clamp(max=1e10)  # once more with what has succeeded
        found, size = _descend(view, x, y, consts, rule=rule, steps=steps, beta=beta, stepsize=stepsize, early=early)
        best = torch.where(per_image(size < best_size, x), found, best)
        best_size = torch.minimum(size, best_size)
        success = size.isfinite()
        upper, lower = torch.where(success, consts, upper), torch.where(success, lower, consts)
        consts = torch.where(upper.isinf(), 10 * consts, (lower + upper) / 2)
    return best

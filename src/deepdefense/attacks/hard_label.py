"""A hard-label attack: it sees predictions only, so no trick with gradients or logits can mislead it.

RayS (Chen & Gu 2020, "RayS: A Ray Searching Method for Hard-label Adversarial Attack"), written for whole batches.
foolbox's HopSkipJump is not used: it stops with an error when no start is found or the model is random, and divides
its gradient estimate by the norm over the whole batch, so images depend on their neighbours.
"""

import torch
from torch import Tensor, nn

from ..arguments import check_whole
from ..inference import answers, frozen
from .contract import check_inputs, check_output


def rays(model: nn.Module, x: Tensor, y: Tensor, *, eps: float = 8 / 255, queries: int = 2000, seed: int = 0) -> Tensor:
    """L∞ attack on predictions alone: the perturbed image where one was found within eps, else the clean one.

    Searches the sign vectors d for the shortest ray x + r·d that ends in a mistake: flips the signs of one block after
    the other, of ever smaller blocks, and keeps a flip that shortens the ray (length by bisection). An image is done at
    r ≤ eps. queries: predictions that each image may cost; an image is asked for at most that often.
    Draws nothing: `seed` has no effect.
    """
    x, y = check_inputs(model, x, y, eps)
    check_whole(queries=queries)
    if len(x) == 0:
        return x.clone()
    with frozen(model), torch.no_grad():
        radius, signs = _search(model, x.flatten(1), y, x.shape[1:], eps, queries)
    found = (radius <= eps)[:, None]
    x_adv = (x.flatten(1) + radius.clamp(max=eps)[:, None] * signs).clamp(0, 1)
    return check_output(x, torch.where(found, x_adv, x.flatten(1)).view_as(x), eps, "RayS")


def _search(model: nn.Module, x: Tensor, y: Tensor, shape: torch.Size, eps: float, queries: int) -> tuple[Tensor, Tensor]:
    """Per flat image the shortest radius found (∞ where none) and its signs; images within eps stop."""

    def wrong(index: Tensor, radius: Tensor, signs: Tensor) -> Tensor:
        used[index] += 1
        images = (x[index] + radius[:, None] * signs).clamp(0, 1)
        return answers(model(images.view(-1, *shape))) != y[index]

    n, size = x.shape
    tolerance = min(1e-3, eps / 20)
    used = torch.zeros(n, dtype=torch.long, device=x.device)
    radius = torch.full((n,), torch.inf, dtype=x.dtype, device=x.device)
    signs = torch.ones_like(x)
    everything = torch.arange(n, device=x.device)
    for reach in (1.0, 0.0):  # the corner of [0, 1] that the first signs point at; the clean image
        hit = wrong(everything, torch.full_like(radius, reach), signs)
        radius[hit] = reach
    open_ = (radius == 1).nonzero().squeeze(1)
    radius[open_] = _shorten(wrong, open_, signs[open_], radius[open_], used, queries, tolerance)
    blocks, number = 1, 0
    while True:
        index = ((radius > eps) & (used < queries)).nonzero().squeeze(1)
        if len(index) == 0:
            return radius, signs
        trial = signs[index]
        first, last = number * size // blocks, (number + 1) * size // blocks
        trial[:, first:last] *= -1
        hit = wrong(index, radius[index].clamp(max=1.0), trial)  # radius 1 reaches the corner of [0, 1]
        index, trial = index[hit], trial[hit]
        if len(index):
            signs[index] = trial
            radius[index] = _shorten(wrong, index, trial, radius[index].clamp(max=1.0), used, queries, tolerance)
        number += 1
        if number == blocks:
            number, blocks = 0, (2 * blocks if 2 * blocks <= size else 1 if blocks == size else size)


def _shorten(wrong, index: Tensor, signs: Tensor, high: Tensor, used: Tensor, queries: int, tolerance: float) -> Tensor:
    """The end of each ray drawn in by bisection, to `tolerance`; the end that is kept was seen to be wrong."""
    low, high = torch.zeros_like(high), high.clone()
    while True:
        open_ = ((high - low > tolerance) & (used[index] < queries)).nonzero().squeeze(1)
        if len(open_) == 0:
            return high
        middle = (low[open_] + high[open_]) / 2
        hit = wrong(index[open_], middle, signs[open_])
        high[open_[hit]], low[open_[~hit]] = middle[hit], middle[~hit]

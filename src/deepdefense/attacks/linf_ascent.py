"""The bare L∞ ascent that the adaptive attacks share: climb a score inside the ball and [0, 1], keep the best iterate.

A score says of each perturbed image how well it does: `score(x_adv) -> (value (B,), fooled (B,) bool)`.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..inference import wrong
from ..losses import margin

Score = Callable[[Tensor], tuple[Tensor, Tensor]]
Move = Callable[[Tensor, Tensor, Tensor, Tensor, float], Tensor]


@dataclass(frozen=True)
class Ascent:
    """Iterates of one ascent: the last and the best (B, ...); value and fooled of all that were scored, (T, B)."""

    last: Tensor
    best: Tensor
    values: Tensor
    fooled: Tensor


def box(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Lowest and highest value of each pixel within eps of x and within [0, 1]."""
    return (x - eps).clamp(min=0), (x + eps).clamp(max=1)


def clip(v: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """`v` with each pixel moved into [low, high]."""
    return torch.minimum(torch.maximum(v, low), high)


def per_image(mask: Tensor, like: Tensor) -> Tensor:
    """`mask` (B,) in a shape that broadcasts against `like` (B, ...)."""
    return mask.view(-1, *[1] * (like.dim() - 1))


def sign_step(x_adv: Tensor, gradient: Tensor, low: Tensor, high: Tensor, size: float) -> Tensor:
    """One step of `size` along the sign of the gradient, clipped to the box."""
    return clip(x_adv + size * gradient.sign(), low, high)


def shrinking(eps: float, steps: int) -> list[float]:
    """Step sizes from eps/2 down to eps/50 along half a cosine: first across the ball, then to the point."""
    return [eps * (0.02 + 0.48 * (1 + math.cos(math.pi * k / steps)) / 2) for k in range(steps)]


def uniform_start(x: Tensor, eps: float, generator: torch.Generator) -> Tensor:
    """A point uniform in the ball around each image; the ascent clips it to [0, 1]."""
    noise = torch.rand(x.shape, generator=generator, device=x.device, dtype=x.dtype)
    return x + eps * (2 * noise - 1)


def _gradient(total: Tensor, x: Tensor) -> Tensor:
    """d total/dx; zero where it is NaN, and where the model has cut the graph, as one that rounds its input does."""
    found = torch.autograd.grad(total, x, allow_unused=True)[0] if total.requires_grad else None
    return torch.zeros_like(x) if found is None else found.nan_to_num()


def climb(
    score: Score,
    x: Tensor,
    *,
    eps: float,
    sizes: Sequence[float],
    start: Tensor,
    move: Move = sign_step,
    score_last: bool = True,
) -> Ascent:
    """Ascend `score` from `start`, one step for each of `sizes`, for a model that is frozen already.

    Of two iterates that one is better which fools; of two that both do or both do not, the one of higher value.
    move: (x_adv, gradient, low, high, size) -> the next iterate; score_last=False saves the last forward pass, and then
    the best is sought among the iterates before the last.
    """
    low, high = box(x, eps)
    x_adv = best = clip(start, low, high)
    best_value = torch.full((len(x),), -torch.inf, dtype=x.dtype, device=x.device)
    best_fooled = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    values, fools = [], []
    for size in [*sizes, None] if score_last else sizes:
        x_adv = x_adv.detach().requires_grad_()
        with torch.set_grad_enabled(size is not None):
            value, fooled = score(x_adv)
            gradient = _gradient(value.sum(), x_adv) if size is not None else None
        value, x_adv = value.detach(), x_adv.detach()
        values.append(value)
        fools.append(fooled)
        better = (fooled & ~best_fooled) | ((fooled == best_fooled) & (value > best_value))
        best = torch.where(per_image(better, x), x_adv, best)
        best_value = torch.where(better, value, best_value)
        best_fooled = best_fooled | fooled
        if size is not None and gradient is not None:
            x_adv = move(x_adv, gradient, low, high, size)
    return Ascent(x_adv, best, torch.stack(values), torch.stack(fools))


def loss_score(model: nn.Module, y: Tensor, objective: Callable[[Tensor, Tensor], Tensor]) -> Score:
    """The score of a loss of logits and labels: its value, and whether the model answers anything but y, or nothing."""

    def score(x_adv: Tensor) -> tuple[Tensor, Tensor]:
        logits = model(x_adv)
        return objective(logits, y), wrong(logits.detach(), y)

    return score


@torch.no_grad()
def worst_of(model: nn.Module, x: Tensor, y: Tensor, attempts: Iterable[Callable[[Tensor], Tensor]]) -> Tensor:
    """The worst of several attempts at each image, for a frozen `model`: one that fools, else that of largest margin.

    Each attempt takes the indices (n,) of the images that nothing has fooled so far and gives its perturbed images
    (n, ...). An image that no attempt brings nearer to a mistake comes back clean.
    """

    def judge(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        logits = model(images)
        return margin(logits, labels), wrong(logits, labels)

    worst = x.clone()
    if len(x) == 0:
        return worst
    value, fooled = judge(x, y)
    for attempt in attempts:
        open_ = (~fooled).nonzero().squeeze(1)
        if len(open_) == 0:
            break
        candidate = attempt(open_)
        new_value, new_fooled = judge(candidate, y[open_])
        keep = new_fooled | (new_value > value[open_])
        taken = open_[keep]
        worst[taken], value[taken], fooled[taken] = candidate[keep], new_value[keep], new_fooled[keep]
    return worst

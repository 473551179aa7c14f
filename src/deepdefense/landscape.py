"""How the loss changes as one walks away from an image: along given directions, and how far the first order foretells it."""

from collections.abc import Callable

import torch
from torch import Tensor

from .geometry import decompose, unit
from .losses import get_loss

DIRECTIONS = ("radial", "tangential gradient", "random tangential")


def directions(h: Tensor, g: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    """Unit directions at h (B, ...), given the loss gradient g there: outwards; along g's tangential part; random tangential."""
    noise = torch.randn(h.shape, generator=generator, dtype=h.dtype, device=h.device)
    return {
        "radial": unit(h),
        "tangential gradient": unit(decompose(g, h)[1]),
        "random tangential": unit(decompose(noise, h)[1]),
    }


@torch.no_grad()
def loss_along(
    f: Callable[[Tensor], Tensor], h: Tensor, y: Tensor, direction: Tensor, distances: Tensor, loss: str = "mse"
) -> Tensor:
    """Change of the loss ℓ(f(h + t·direction), y) − ℓ(f(h), y) for each t of `distances` (T,): (B, T).

    f maps h (B, ...) to logits; `direction` has the shape of h and unit length, so t is an L2 distance in the units of h.
    """
    value = get_loss(loss)
    start = value(f(h), y)
    return torch.stack([value(f(h + t * direction), y) - start for t in distances.to(h)], dim=1)

"""How the loss changes around an image: walks along directions, its worst rise within a plane, its curvature."""

from collections.abc import Callable

import torch
from torch import Tensor

from deepdefense.geometry import decompose, unit
from deepdefense.losses import get_loss

from ..scope import WITHIN

Model = Callable[[Tensor], Tensor]


def _scaled(v: Tensor, length: Tensor) -> Tensor:
    return v * length.view(-1, *[1] * (v.dim() - 1))


def worst_rise(f: Model, h: Tensor, y: Tensor, *, radius: float, loss: str = "mse", within: str = "tangential", steps: int = 20) -> Tensor:
    """The largest rise ℓ(f(h + δ), y) − ℓ(f(h), y) that was found for ‖δ‖₂ ≤ radius: (B,), never below 0 (δ = 0).

    within: "tangential" keeps ⟨δ, h⟩ = 0, "all" does not, by projected gradient ascent with normalised steps of 2.5·radius/steps;
    "radial" is δ = t·h/‖h‖, for which 2·steps + 1 values of t from −radius to radius are tried.
    """
    if within not in WITHIN:
        raise ValueError(f"within must be one of {', '.join(WITHIN)}; got {within!r}")
    if not radius > 0:
        raise ValueError(f"radius must be a number above 0, got {radius}")
    value = get_loss(loss)
    with torch.no_grad():
        start = value(f(h), y)
    if within == "radial":
        with torch.no_grad():
            distances = torch.linspace(-radius, radius, 2 * steps + 1, dtype=torch.float64)
            return torch.stack([value(f(h + float(t) * unit(h)), y) - start for t in distances]).amax(0).clamp(min=0)
    delta, best = torch.zeros_like(h), torch.zeros_like(start)
    for _ in range(steps):
        with torch.enable_grad():
            point = (h + delta).requires_grad_()
            here = value(f(point), y)
            (gradient,) = torch.autograd.grad(here.sum(), point)
        best = torch.maximum(best, here.detach() - start)
        step = decompose(gradient, h)[1] if within == "tangential" else gradient
        delta = delta + 2.5 * radius / steps * unit(step)
        if within == "tangential":
            delta = decompose(delta, h)[1]  # rounding adds up
        length = delta.flatten(1).norm(dim=1)
        delta = _scaled(delta, (radius / length.clamp(min=radius)).clamp(max=1))
    with torch.no_grad():
        return torch.maximum(best, value(f(h + delta), y) - start)


def attack_parts(f: Model, h: Tensor, y: Tensor, delta: Tensor, g: Tensor, losses=("mse", "ce", "margin")) -> dict[str, Tensor]:
    """What the radial and the tangential part of a perturbation do, each alone and together; every value (B,).

    delta: the perturbation, in the coordinates of h; g: gradient of the training loss at h. "radial share" is the share of ‖δ‖²,
    "cosine" the one of δ and g, "first order radial" and "... tangential" are ⟨g_r, δ_r⟩ and ⟨g_t, δ_t⟩; "LOSS whole" and so on
    are changes of that loss.
    """
    radial, tangential = decompose(delta, h)
    g_radial, g_tangential = decompose(g, h)
    found = {
        "radial share": radial.flatten(1).square().sum(1) / delta.flatten(1).square().sum(1).clamp(min=1e-30),
        "cosine": (unit(delta) * unit(g)).flatten(1).sum(1),
        "first order radial": (g_radial * radial).flatten(1).sum(1),
        "first order tangential": (g_tangential * tangential).flatten(1).sum(1),
    }
    with torch.no_grad():
        start = f(h)
        moved = {"whole": f(h + delta), "radial": f(h + radial), "tangential": f(h + tangential)}
    for name in losses:
        before = get_loss(name)(start, y)
        found |= {f"{name} {part}": get_loss(name)(logits, y) - before for part, logits in moved.items()}
    return found


def curvature(f: Model, h: Tensor, y: Tensor, direction: Tensor, *, step: float = 0.25, loss: str = "mse") -> Tensor:
    """Second difference of the loss along the unit `direction`, (ℓ(h + t·d) + ℓ(h − t·d) − 2ℓ(h))/t² with t = step: (B,)."""
    value = get_loss(loss)
    with torch.no_grad():
        ends = [value(f(h + sign * step * direction), y) for sign in (1, -1)]
        return (ends[0] + ends[1] - 2 * value(f(h), y)) / step**2


def directions(h: Tensor, g: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    """Unit directions at h (B, ...), given the loss gradient g there: outwards; along g's tangential part; random tangential."""
    noise = torch.randn(h.shape, generator=generator, dtype=h.dtype, device=h.device)
    return {
        "radial": unit(h),
        "tangential gradient": unit(decompose(g, h)[1]),
        "random tangential": unit(decompose(noise, h)[1]),
    }


@torch.no_grad()
def loss_along(f: Callable[[Tensor], Tensor], h: Tensor, y: Tensor, direction: Tensor, distances: Tensor, loss: str = "mse") -> Tensor:
    """Change of the loss ℓ(f(h + t·direction), y) − ℓ(f(h), y) for each t of `distances` (T,): (B, T).

    f maps h (B, ...) to logits; `direction` has the shape of h and unit length, so t is an L2 distance in the units of h.
    """
    value = get_loss(loss)
    start = value(f(h), y)
    return torch.stack([value(f(h + t * direction), y) - start for t in distances.to(h)], dim=1)

"""Radial and tangential parts of a vector at a point, the alignment of two vectors, and the first-order bound.

Every function is pure and works per sample: tensors are (B, ...), everything after the batch axis is one vector.
Claims and symbols: Lin et al. 2025 (arXiv 2511.13749); the zero-vector conventions are ours.
"""

import torch
from torch import Tensor


def _flat_pair(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    if a.shape != b.shape or a.dim() < 2:
        raise ValueError(
            f"both tensors need one shape (B, ...) with a batch axis; got {tuple(a.shape)} and {tuple(b.shape)}"
        )
    return a.flatten(1), b.flatten(1)


def _rescale(v: Tensor) -> Tensor:
    """(B, D) divided by its largest magnitude, a constant to autograd, so that squares neither vanish nor overflow.

    A vector of subnormal numbers becomes zero: the gradient of its direction would not be finite. NaN stays NaN.
    """
    peak = v.detach().abs().amax(1, keepdim=True)
    vanishing = peak < 16 * torch.finfo(v.dtype).tiny
    return torch.where(vanishing, torch.zeros_like(v), v / torch.where(vanishing, torch.ones_like(peak), peak))


def unit(v: Tensor) -> Tensor:
    """Each sample of `v` (B, ...) divided by its L2 norm; a zero vector stays zero (gradient zero too)."""
    flat = _rescale(v.flatten(1))
    norm = flat.norm(dim=1, keepdim=True)
    return (flat / torch.where(norm == 0, torch.ones_like(norm), norm)).view_as(v)


def alignment(h: Tensor, g: Tensor) -> Tensor:
    """Cosine of the angle between `h` and `g`, both (B, ...) -> (B,) in [-1, 1]; differentiable in both.

    Where either vector is zero the angle has no meaning; the alignment is then 0 by definition, with zero gradient.
    """
    h, g = _flat_pair(h, g)
    h, g = _rescale(h), _rescale(g)
    squared = h.square().sum(1) * g.square().sum(1)
    zero = squared == 0
    cosine = (h * g).sum(1) / torch.where(zero, torch.ones_like(squared), squared).sqrt()
    return torch.where(zero, torch.zeros_like(cosine), cosine).clamp(-1, 1)


def decompose(v: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Split `v` (B, ...) at the point `x` (same shape) into (radial, tangential), with radial + tangential = v.

    radial = ⟨v, x̂⟩ x̂ with x̂ = x/‖x‖, tangential = v − radial. "Radial" depends on where the origin is: pass `x` as the
    network sees it (for [−1, 1] inputs the origin is mid-grey). At x = 0 no direction is radial: radial is 0.
    """
    flat_v, flat_x = _flat_pair(v, x)
    x_hat = unit(flat_x)
    radial = (flat_v * x_hat).sum(1, keepdim=True) * x_hat
    return radial.view_as(v), (flat_v - radial).view_as(v)


def first_order_change(g: Tensor, x: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
    """First-order change of the loss, split: (⟨g_r, δ_r⟩, ⟨g_t, δ_t⟩), each (B,). Their sum is ⟨g, δ⟩.

    `g` is the loss gradient at `x` and `delta` a perturbation of it, all (B, ...) in the same coordinates.
    """
    g_radial, g_tangential = decompose(g, x)
    d_radial, d_tangential = decompose(delta, x)
    return (g_radial * d_radial).flatten(1).sum(1), (g_tangential * d_tangential).flatten(1).sum(1)


def tangential_bound(g: Tensor, x: Tensor, eps: float, norm: str = "l2") -> Tensor:
    """Largest first-order tangential change ⟨g_t, δ_t⟩ over ‖δ‖ ≤ `eps`, per sample: (B,), attained when the ball is free.

    norm="l2":   eps · ‖g_t‖₂ = eps · ‖g‖₂ · sqrt(1 − a²), with a the alignment of x and g
    norm="linf": eps · ‖g_t‖₁, attained by δ = eps · sign(g_t), since ⟨g_t, δ_t⟩ = ⟨g_t, δ⟩
    The box [0, 1] is not taken into account, so the bound can only be too large. `eps` is in the units of `x`.
    """
    if not eps >= 0:
        raise ValueError(f"eps must be a number of at least 0, got {eps}")
    if norm not in ("l2", "linf"):
        raise ValueError(f"norm must be 'l2' or 'linf', got {norm!r}")
    _, tangential = decompose(g, x)
    flat = tangential.flatten(1)
    if norm == "linf":
        return eps * flat.abs().sum(1)
    return eps * flat.abs().amax(1) * _rescale(flat).norm(dim=1)

"""Radial and tangential parts of a vector at a point, the alignment of two vectors, and the first-order bound.

Every function is pure and works per sample: tensors are (B, ...), everything after the batch axis is one vector.
Claims and symbols: Lin et al. 2025 (arXiv 2511.13749); the zero-vector conventions are ours.
"""

import torch
from torch import Tensor


def _flat_pair(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    if a.shape != b.shape or a.dim() < 2:
        raise ValueError(f"both tensors need one shape (B, ...) with a batch axis; got {tuple(a.shape)} and {tuple(b.shape)}")
    return a.flatten(1), b.flatten(1)


def _rescale(v: Tensor) -> tuple[Tensor, Tensor]:
    """(B, D) divided by its largest magnitude (B, 1), a constant to autograd, so that squares neither vanish nor overflow.

    A vector of subnormal numbers becomes zero: the gradient of its direction would not be finite. NaN stays NaN.
    """
    peak = v.detach().abs().amax(1, keepdim=True)
    vanishing = peak < 16 * torch.finfo(v.dtype).tiny
    peak = torch.where(vanishing, torch.ones_like(peak), peak)
    return torch.where(vanishing, torch.zeros_like(v), v / peak), peak


def unit(v: Tensor) -> Tensor:
    """Each sample of `v` (B, ...) divided by its L2 norm; a zero vector stays zero (gradient zero too)."""
    flat, _ = _rescale(v.flatten(1))
    norm = flat.norm(dim=1, keepdim=True)
    return (flat / torch.where(norm == 0, torch.ones_like(norm), norm)).view_as(v)


def alignment(h: Tensor, g: Tensor) -> Tensor:
    """Cosine of the angle between `h` and `g`, both (B, ...) -> (B,) in [-1, 1]; differentiable in both, any number of times.

    Where either vector is zero the angle has no meaning; the alignment is then 0 by definition, with zero gradient.
    Vectors in half precision are taken in float32.
    """
    if h.dim() == 4 and all(v.is_contiguous(memory_format=torch.channels_last) for v in (h, g)):
        h, g = h.permute(0, 2, 3, 1), g.permute(0, 2, 3, 1)  # flattened below without a copy
    h, g = _flat_pair(h, g)
    dtype = torch.promote_types(h.dtype, g.dtype)
    dtype = torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype
    return _Alignment.apply(h.to(dtype), g.to(dtype))


def plain_alignment(h: Tensor, g: Tensor) -> Tensor:
    """The alignment of (B, D) and (B, D) in torch's own operations: some twenty passes over the vectors.

    What the written-out gradient of `alignment` is measured against, and what stands in for it in second derivatives.
    """
    h, g = _rescale(h)[0], _rescale(g)[0]
    squared = h.square().sum(1) * g.square().sum(1)
    zero = squared == 0
    cosine = (h * g).sum(1) / torch.where(zero, torch.ones_like(squared), squared).sqrt()
    return torch.where(zero, torch.zeros_like(cosine), cosine).clamp(-1, 1)


class _Alignment(torch.autograd.Function):
    """(B, D), (B, D) -> (B,), with ∂a/∂h = (ĝ − a ĥ)/‖h‖ written out: three passes forwards, two for each gradient.

    Vectors whose squares might not fit into the number format are divided by their largest magnitudes first. Only a CPU is
    asked whether that is needed: a GPU would have to finish all its work to answer, and no CUDA graph can hold the question.
    """

    @staticmethod
    def forward(ctx, h, g):
        scaled_h, scaled_g, peaks = h, g, ()
        norms = _norms(h, g) if h.device.type == "cpu" else None
        if norms is None or not _have_room(*norms):
            (scaled_h, *peak_h), (scaled_g, *peak_g) = _rescale(h), _rescale(g)
            peaks = (*peak_h, *peak_g)
            norms = _norms(scaled_h, scaled_g)
        norm_h, norm_g = norms
        length = norm_h * norm_g
        zero = length == 0
        cosine = (scaled_h * scaled_g).sum(1) / torch.where(zero, 1, length)
        cosine = torch.where(zero, 0, cosine).clamp(-1, 1)
        ctx.save_for_backward(h, g, scaled_h, scaled_g, norm_h, norm_g, cosine, *peaks)
        return cosine

    @staticmethod
    def backward(ctx, cotangent):
        h, g, scaled_h, scaled_g, norm_h, norm_g, cosine, *peaks = ctx.saved_tensors
        if torch.is_grad_enabled():  # somebody wants to differentiate again
            wanted = [v for v, needed in zip((h, g), ctx.needs_input_grad, strict=True) if needed]
            found = iter(torch.autograd.grad(plain_alignment(h, g), wanted, cotangent, create_graph=True))
            return tuple(next(found) if needed else None for needed in ctx.needs_input_grad)
        zero = norm_h * norm_g == 0
        cotangent = torch.where(zero, 0, cotangent)
        norm_h, norm_g = torch.where(zero, 1, norm_h), torch.where(zero, 1, norm_g)
        gradients = []
        for index, (v, other, norm) in enumerate(((scaled_h, scaled_g, norm_h), (scaled_g, scaled_h, norm_g))):
            if not ctx.needs_input_grad[index]:
                gradients.append(None)
                continue
            factor = cotangent / peaks[index].squeeze(1) if peaks else cotangent
            along_other, along_v = factor / (norm_h * norm_g), -factor * cosine / norm.square()
            gradients.append(torch.mul(other, along_other[:, None]).addcmul_(v, along_v[:, None]))
        return tuple(gradients)


def _norms(h: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    return torch.linalg.vector_norm(h, dim=1), torch.linalg.vector_norm(g, dim=1)


def _have_room(*norms: Tensor) -> bool:
    """Are all squares and products of these norms far from the ends of float32? Not so for a zero or a NaN."""
    return all(bool(((norm > 1e-12) & (norm < 1e12)).all()) for norm in norms)


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
    return eps * flat.abs().amax(1) * _rescale(flat)[0].norm(dim=1)

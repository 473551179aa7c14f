"""PGD across the aligned gradient: what a defence that tames one gradient direction leaves open.

Gradient-Feature Alignment acts on u = ∂ℓ/∂x = Jᵀ ∂ℓ/∂z, with the *training* loss ℓ at the right label: one direction
of the Jacobian. Another loss has other directions. This attack climbs such a loss and is kept from using u: what it
still finds, the regulariser has not touched.
"""

import torch
from torch import Tensor, nn

from ..arguments import check_whole
from ..inference import frozen
from ..losses import get_loss
from .contract import check_inputs, check_output
from .linf_ascent import box, climb, clip, loss_score, shrinking, uniform_start

PLACES = ("clean", "iterate")


def project(v: Tensor, u: Tensor, anchor: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The point nearest to `v` in the box [low, high] with ⟨u, · − anchor⟩ = 0, per image; `anchor` lies in the box.

    It is clip(v − τu) with τ from that equation, whose left side falls as τ rises: found by bisection. Where u = 0 it
    is the clipped v. All are (B, ...).
    """
    shape, v, u, anchor, low, high = v.shape, *(t.flatten(1) for t in (v, u, anchor, low, high))
    peak = u.abs().amax(1, keepdim=True)
    u = u / torch.where(peak > 0, peak, torch.ones_like(peak))

    def excess(tau: Tensor) -> Tensor:
        return (u * (clip(v - tau * u, low, high) - anchor)).sum(1, keepdim=True)

    reach = torch.ones_like(peak)
    for _ in range(60):  # until both ends bracket the root; the values of the box are below 1, those of u at most 1
        short = (excess(reach) > 0) | (excess(-reach) < 0)
        if not short.any():
            break
        reach = torch.where(short, 2 * reach, reach)
    below, above = -reach, reach
    for _ in range(40):
        middle = (below + above) / 2
        positive = excess(middle) > 0
        below, above = torch.where(positive, middle, below), torch.where(positive, above, middle)
    return clip(v - (below + above) / 2 * u, low, high).view(shape)


def orthogonal_pgd(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float = 8 / 255,
    steps: int = 40,
    training_loss: str = "mse",
    loss: str = "margin",
    at: str = "iterate",
    seed: int = 0,
) -> Tensor:
    """L∞ PGD on `loss` with every step orthogonal to the input gradient u of `training_loss`; best iterate.

    at="clean":   u is taken once, at the clean image, and the whole perturbation is orthogonal to it
    at="iterate": u is taken anew at each iterate, and each step is orthogonal to it
    The step follows the sign of the gradient without its part along u, and is then projected, exactly, onto the
    part of ball and [0, 1] where ⟨u, ·⟩ = 0. For a linear model with two classes u spans every gradient, so the attack
    finds nothing: as it should. The regulariser: Lin et al. 2025 (arXiv 2511.13749); the attack is ours.
    """
    x, y = check_inputs(model, x, y, eps)
    check_whole(steps=steps)
    if at not in PLACES:
        raise ValueError(f"at must be one of {', '.join(PLACES)}; got {at!r}")
    trained, objective = get_loss(training_loss), get_loss(loss)

    def aligned(point: Tensor) -> Tensor:
        point = point.detach().requires_grad_()
        with torch.enable_grad():
            return torch.autograd.grad(trained(model(point), y).sum(), point)[0].nan_to_num()

    def move(x_adv: Tensor, gradient: Tensor, low: Tensor, high: Tensor, size: float) -> Tensor:
        u, anchor = (u_clean, x) if at == "clean" else (aligned(x_adv), x_adv)
        step = size * without(gradient, u).sign()
        return project(x_adv + step, u, anchor, low, high)

    with frozen(model):
        start = uniform_start(x, eps, torch.Generator(x.device).manual_seed(seed))
        u_clean = aligned(x) if len(x) else torch.zeros_like(x)
        start = project(start, u_clean, x, *box(x, eps))
        score = loss_score(model, y, objective)
        x_adv = climb(score, x, eps=eps, sizes=shrinking(eps, steps), start=start, move=move).best
    return check_output(x, x_adv, eps, "orthogonal PGD")


def without(v: Tensor, u: Tensor) -> Tensor:
    """`v` (B, ...) less its part along `u`, per image; what rounding leaves of a `v` parallel to `u` counts as zero."""
    flat_v, flat_u = v.flatten(1), u.flatten(1)
    unit = torch.nn.functional.normalize(flat_u / flat_u.abs().amax(1, keepdim=True).clamp(min=1e-30), dim=1)
    rest = flat_v - (flat_v * unit).sum(1, keepdim=True) * unit
    noise = 1e-5 * flat_v.norm(dim=1, keepdim=True)
    return torch.where(rest.norm(dim=1, keepdim=True) > noise, rest, torch.zeros_like(rest)).view_as(v)

"""PGD in the plane orthogonal to the image: the attack that follows from the decomposition into radial and tangential parts.

Gradient-Feature Alignment turns the gradient towards the image h as the network sees it: a perturbation orthogonal to h then
leaves the loss as it is, to first order. This attack asks how much of free PGD's strength lies in that plane all the same.
"""

import torch
from torch import Tensor, nn

from .. import taps
from ..arguments import check_whole
from ..inference import frozen
from ..losses import get_loss
from .contract import AttackError, check_inputs, check_output
from .linf_ascent import box, climb, clip, loss_score, per_image, shrinking, uniform_start, worst_of
from .orthogonal import project

ORTHOGONAL = 1e-6  # largest cosine between perturbation and image that counts as none


def image_direction(model: nn.Module, x: Tensor, origin: float | None = None) -> Tensor:
    """The vector u (B, ...), float64, with ⟨u, δ⟩ = 0 exactly when δ is orthogonal to the image as the network sees it.

    origin: the pixel value that the network sees as zero, for one whose input is a multiple of x − origin: then u = x − origin
    (0.5 for networks of `models.build`, which see [−1, 1]). None takes it from the frozen model: h(x) is the image as the network
    sees it, the first tap, as in GFA, and u = ∂(½‖h‖²)/∂x = Jᵀh, since the network sees δ as Jδ: right for any scaling.
    """
    if origin is not None:
        return x.detach().double() - origin
    return torch.cat([_pulled_back(model, one) for one in x.detach().split(1)])  # alone, as a model may take few at a time


def _pulled_back(model: nn.Module, one: Tensor) -> Tensor:
    """Jᵀh of one image (1, ...), float64."""
    with torch.enable_grad():
        point = one.clone().requires_grad_()
        _, (tap,) = taps.forward(model, point, "first")
        (found,) = torch.autograd.grad(tap.value.double().square().sum() / 2, point)
    return found.double().nan_to_num(0, 0, 0)


def steepest(gradient: Tensor, u: Tensor, low: Tensor, high: Tensor, level: Tensor) -> Tensor:
    """The s that maximises ⟨gradient, s⟩ in the box [low, high] with ⟨u, s⟩ = level, per image: exact, by sorting.

    gradient, u, low, high (B, D); level (B,) within reach of the box. A pixel sits at one end of its box or the other, as
    gradient − τu is positive or negative, but for one in between: as τ rises past gradient/u each changes its end, which
    lowers ⟨u, s⟩, until it is `level`. Pixels that matter to neither stay at 0, and so does all where the gradient is 0.
    """
    width = high - low
    free = torch.where(gradient > 0, high, torch.where(gradient < 0, low, torch.zeros_like(low)))
    first = torch.where(u > 0, high, torch.where(u < 0, low, free))
    order = torch.where(u != 0, gradient / u, torch.inf).argsort(1)
    falls = (u.abs() * width).gather(1, order)
    left = ((u * first).sum(1) - level)[:, None] - (falls.cumsum(1) - falls)
    share = torch.where(falls > 0, left / falls, 0.0).clamp(0, 1)
    s = first - torch.zeros_like(share).scatter(1, order, share) * u.sign() * width
    return torch.where((gradient != 0).any(1, keepdim=True), s, torch.zeros_like(s))


def _check_tangential(x: Tensor, x_adv: Tensor, u: Tensor) -> Tensor:
    """`x_adv`, proven orthogonal: up to `ORTHOGONAL` and the rounding of pixels to their own type; AttackError otherwise."""
    delta, along = (x_adv.double() - x.double()).flatten(1), u.flatten(1)
    inner = (along * delta).sum(1).abs()
    rounding = torch.finfo(x.dtype).eps * along.abs().sum(1)
    if not (inner <= ORTHOGONAL * along.norm(dim=1) * delta.norm(dim=1) + rounding).all():
        raise AttackError(f"tangential PGD left the plane: inner product with the image up to {inner.max():.3g}")
    return x_adv


def tangential_pgd(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float = 8 / 255,
    steps: int = 40,
    restarts: int = 2,
    loss: str = "margin",
    origin: float | None = None,
    seed: int = 0,
) -> Tensor:
    """L∞ PGD on `loss` with the whole perturbation orthogonal to the image as the network sees it; the worst per image.

    Each step is the steepest one of its size within ball, [0, 1] and plane (`steepest`: the sign of the gradient, were it not
    for the plane), from a random point of all three; sizes shrink from eps/2 to eps/50. Every iterate is feasible, so that on
    a linear model it comes to the optimum of the linear program. Best iterate; an image that is fooled is not attacked again.

    origin: see `image_direction`; by default the plane is taken from the model. Where the network sees an image of zeros there
    is no direction to be orthogonal to, and the attack is free.
    The decomposition: Lin et al. 2025 (arXiv 2511.13749); the attack is ours.
    """
    x, y = check_inputs(model, x, y, eps)
    check_whole(steps=steps, restarts=restarts)
    objective = get_loss(loss)
    if len(x) == 0:
        return x.clone()
    generator = torch.Generator(x.device).manual_seed(seed)

    with frozen(model):
        u = image_direction(model, x, origin)
        peak = u.flatten(1).abs().amax(1)
        u = u / per_image(torch.where(peak > 0, peak, 1.0), u)
        low, high = box(x, eps)

        def start() -> Tensor:
            point = uniform_start(x, eps, generator).double()
            return project(point, u, x.double(), low.double(), high.double()).to(x.dtype)

        def attempt(begin: Tensor):
            def run(index: Tensor) -> Tensor:
                along, clean = u[index].flatten(1), x[index].double().flatten(1)

                def move(x_adv: Tensor, gradient: Tensor, low: Tensor, high: Tensor, size: float) -> Tensor:
                    here = x_adv.double().flatten(1)
                    level = (along * (clean - here)).sum(1)  # what the rounding of pixels has left
                    least = (low.double().flatten(1) - here).clamp(-size, 0)
                    most = (high.double().flatten(1) - here).clamp(0, size)
                    step = steepest(gradient.double().nan_to_num(nan=0.0).flatten(1), along, least, most, level)
                    return clip((here + step).view(x_adv.shape).to(x_adv.dtype), low, high)

                score = loss_score(model, y[index], objective)
                return climb(score, x[index], eps=eps, sizes=shrinking(eps, steps), start=begin[index], move=move).best

            return run

        x_adv = worst_of(model, x, y, [attempt(start()) for _ in range(restarts)])
    return _check_tangential(x, check_output(x, x_adv, eps, "tangential PGD"), u)

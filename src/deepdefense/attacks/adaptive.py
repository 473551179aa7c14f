"""PGD on a loss of one's choice, keeping the best iterate: what a cross-entropy attack misses on a net trained otherwise."""

import torch
from torch import Tensor, nn

from ..losses import get_loss
from .guard import check_inputs, check_output, check_whole, frozen, step_size


def uniform_start(x: Tensor, eps: float, generator: torch.Generator) -> Tensor:
    """A point drawn uniformly from the L∞ ball of radius eps around each image (not yet cut to [0, 1])."""
    noise = torch.rand(x.shape, generator=generator, device=x.device, dtype=x.dtype)
    return x.detach() + eps * (2 * noise - 1)


def ascend(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    alpha: float,
    steps: int,
    loss: str,
    start: Tensor,
    keep_best: bool,
) -> Tensor:
    """The bare L∞ ascent from `start`, for a model that is frozen already. Returns the last or the best iterate."""
    objective = get_loss(loss)
    low, high = (x - eps).clamp(min=0), (x + eps).clamp(max=1)
    x_adv = torch.minimum(torch.maximum(start, low), high)
    best, best_value = x_adv, torch.full((len(x),), -torch.inf, dtype=x.dtype, device=x.device)

    def keep(candidate: Tensor, value: Tensor) -> None:
        nonlocal best, best_value
        better = value > best_value
        best = torch.where(better.view(-1, *[1] * (x.dim() - 1)), candidate, best)
        best_value = torch.where(better, value, best_value)

    for _ in range(steps):
        x_adv = x_adv.detach().requires_grad_()
        with torch.enable_grad():
            value = objective(model(x_adv), y)
            (gradient,) = torch.autograd.grad(value.sum(), x_adv)
        if keep_best:
            keep(x_adv.detach(), value.detach())
        x_adv = torch.minimum(torch.maximum(x_adv.detach() + alpha * gradient.sign(), low), high)
    if keep_best:
        with torch.no_grad():
            keep(x_adv, objective(model(x_adv), y))
    return best if keep_best else x_adv


def loss_pgd(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float = 8 / 255,
    steps: int = 20,
    alpha: float | None = None,
    loss: str = "margin",
    random_start: bool = True,
    keep_best: bool = True,
    generator: torch.Generator | None = None,
    seed: int = 0,
) -> Tensor:
    """L∞ PGD that maximises `loss` ("margin", "ce" or "mse") per sample and returns the best iterate, (B, C, H, W).

    alpha: step size, eps/4 by default; keep_best=False gives the last iterate (Madry et al. 2018, for training)
    generator: source of the random start, on x's device; without one a fresh generator with `seed`
    """
    check_inputs(model, x, y, eps)
    check_whole(steps=steps)
    alpha = step_size(alpha, eps)
    if generator is None:
        generator = torch.Generator(x.device).manual_seed(seed)
    start = uniform_start(x, eps, generator) if random_start else x.detach()
    with frozen(model):
        x_adv = ascend(
            model, x.detach(), y.long(), eps=eps, alpha=alpha, steps=steps, loss=loss, start=start, keep_best=keep_best
        )
    return check_output(x, x_adv, eps, "PGD")

"""Transfer: attack substitutes, judge on the model. Masked gradients hide nothing that another net's find."""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..arguments import positive
from ..inference import frozen
from .contract import Attack, check_inputs, check_output
from .linf_ascent import worst_of
from .projected_gradient import loss_pgd

RELUS = (F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_)


def transfer(substitutes: Mapping[str, nn.Module], attack: Attack = loss_pgd, **options) -> Attack:
    """An attack `(model, x, y, *, eps, seed) -> x_adv` that fools `substitutes` and keeps what is worst for the model.

    substitutes: {name: network} taking the same images to logits of the same classes; attack and its options: what is
    run on each of them, by default PGD on the margin (Papernot et al. 2017).
    """
    if not substitutes:
        raise ValueError("transfer needs at least one substitute")
    for name, substitute in substitutes.items():
        if not isinstance(substitute, nn.Module):
            raise ValueError(f"substitute {name!r} must be a torch.nn.Module, got {type(substitute).__name__}")

    def run(model: nn.Module, x: Tensor, y: Tensor, *, eps: float, seed: int = 0) -> Tensor:
        x, y = check_inputs(model, x, y, eps)

        def attempt(substitute: nn.Module) -> Callable[[Tensor], Tensor]:
            return lambda index: attack(substitute, x[index], y[index], eps=eps, seed=seed, **options)

        with frozen(model):
            x_adv = worst_of(model, x, y, [attempt(substitute) for substitute in substitutes.values()])
        return check_output(x, x_adv, eps, "transfer")

    return run


class _SoftReLU(TorchFunctionMode):
    """While active, every ReLU that torch runs is softplus(beta · x)/beta; counts them."""

    def __init__(self, beta: float):
        super().__init__()
        self.beta, self.met = beta, 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in RELUS:
            self.met += 1
            x = args[0] if args else kwargs["input"]
            return F.softplus(x, beta=self.beta)
        return func(*args, **(kwargs or {}))


class SmoothActivations(nn.Module):
    """`model` with softplus(beta) in place of every ReLU, module or function; the weights are the model's own.

    A substitute, for attacks only: its gradient is defined where ReLU's is zero or jumps. Raises ValueError in
    `forward` if the model runs no ReLU. Other kinks (max-pooling, clamping) stay as they are; a model that discards
    what an in-place ReLU returns keeps that ReLU's input.
    """

    def __init__(self, model: nn.Module, beta: float = 20.0):
        super().__init__()
        positive(beta=beta)
        self.model, self.beta = model, beta

    def forward(self, x: Tensor) -> Tensor:
        with _SoftReLU(self.beta) as mode:
            logits = self.model(x)
        if mode.met == 0:
            raise ValueError("the model runs no ReLU, so there is no activation to smooth")
        return logits


def has_relu(model: nn.Module, x: Tensor) -> bool:
    """Does `model` run a ReLU that `SmoothActivations` can replace? x (B, ...) images, one is enough."""
    with frozen(model), torch.no_grad(), _SoftReLU(1.0) as mode:
        model(x[:1])
    return mode.met > 0


def smooth_pgd(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float = 8 / 255,
    steps: int = 40,
    betas: tuple[float, ...] = (5.0, 20.0),
    loss: str = "margin",
    seed: int = 0,
) -> Tensor:
    """Transfer from the model itself with smooth activations (backward pass differentiable approximation, Athalye et
    al. 2018, with softplus): PGD on `loss` for each of `betas`, judged on the model with its own ReLUs."""
    check_inputs(model, x, y, eps)
    substitutes = {f"beta {beta:g}": SmoothActivations(model, beta) for beta in betas}
    return transfer(substitutes, steps=steps, loss=loss)(model, x, y, eps=eps, seed=seed)

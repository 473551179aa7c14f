"""Square Attack (Andriushchenko et al. 2020) by the authors of AutoAttack: random search on logits, no gradients."""

import torch
from torch import Tensor, nn

from .adaptive import check_steps
from .guard import check_inputs, check_output, frozen, seeded


class _Copied(nn.Module):
    """The model with logits of its own: the attack writes −∞ into what it is given."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x).clone()


def square(
    model: nn.Module, x: Tensor, y: Tensor, *, eps: float = 8 / 255, queries: int = 5000, seed: int = 0
) -> Tensor:
    """L∞ Square Attack on the margin, through pyautoattack: (B, C, H, W); the clean image where it finds nothing.

    queries: forward passes that each image may cost. Give each batch its own seed.
    """
    from pyautoattack.square import SquareAttack

    check_inputs(model, x, y, eps)
    check_steps(queries=queries)
    if len(x) == 0 or eps == 0:
        return x.detach().clone()
    with frozen(model), seeded(x.device, seed), torch.no_grad():
        attack = SquareAttack(_Copied(model), norm="Linf", n_queries=queries, eps=eps, seed=seed, device=x.device)
        x_adv = attack.perturb(x.detach(), y)
    return check_output(x, x_adv, eps, "Square")

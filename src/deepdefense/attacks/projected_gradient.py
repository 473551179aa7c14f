"""PGD on a loss of one's choice, keeping the best iterate: what an attack on cross-entropy alone misses.

With restarts, and on scaled logits, which undoes a saturated softmax.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..arguments import check_whole
from ..inference import frozen
from ..losses import get_loss
from .contract import check_inputs, check_output, step_size
from .linf_ascent import Ascent, climb, loss_score, shrinking, uniform_start, worst_of

FACTORS = tuple(10.0**k for k in range(-3, 4))


def trace_pgd(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    steps: int = 20,
    alpha: float | None = None,
    loss: str = "margin",
    random_start: bool = True,
    score_last: bool = True,
    generator: torch.Generator | None = None,
    seed: int = 0,
) -> Ascent:
    """`loss_pgd` with everything that it met: last and best iterate, the loss and whether it fooled at each step."""
    x, y = check_inputs(model, x, y, eps)
    check_whole(steps=steps)
    objective = get_loss(loss)
    alpha = step_size(alpha, eps)
    if generator is None:
        generator = torch.Generator(x.device).manual_seed(seed)
    start = uniform_start(x, eps, generator) if random_start else x
    with frozen(model):
        score = loss_score(model, y, objective)
        return climb(score, x, eps=eps, sizes=[alpha] * steps, start=start, score_last=score_last)


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
    """L∞ PGD that maximises `loss` ("margin", "ce", "mse" or "dlr") per sample; returns the best iterate, as x.

    The best iterate is one that fools the model, where there is one, and else that of the highest loss.
    alpha: step size, eps/4 by default; keep_best=False gives the last iterate (Madry et al. 2018, for training)
    generator: source of the random start, on x's device; without one a fresh generator with `seed`
    """
    ascent = trace_pgd(
        model,
        x,
        y,
        eps=eps,
        steps=steps,
        alpha=alpha,
        loss=loss,
        random_start=random_start,
        score_last=keep_best,
        generator=generator,
        seed=seed,
    )
    return check_output(x.detach(), ascent.best if keep_best else ascent.last, eps, "PGD")


def restarted_pgd(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float = 8 / 255,
    steps: int = 40,
    restarts: int = 2,
    loss: str = "margin",
    seed: int = 0,
) -> Tensor:
    """L∞ PGD on `loss`, step sizes shrinking from eps/2 to eps/50, from `restarts` random starts; the worst per image.

    Best iterate, as in `loss_pgd`; an image that is fooled is not attacked again.
    """
    x, y = check_inputs(model, x, y, eps)
    check_whole(steps=steps, restarts=restarts)
    objective = get_loss(loss)
    generator = torch.Generator(x.device).manual_seed(seed)

    def attempt(start: Tensor):
        def run(index: Tensor) -> Tensor:
            score = loss_score(model, y[index], objective)
            return climb(score, x[index], eps=eps, sizes=shrinking(eps, steps), start=start[index]).best

        return run

    with frozen(model):
        x_adv = worst_of(model, x, y, [attempt(uniform_start(x, eps, generator)) for _ in range(restarts)])
    return check_output(x, x_adv, eps, "PGD with restarts")


class ScaledLogits(nn.Module):
    """`model` with its logits multiplied by `factor`: the same predictions, another softmax."""

    def __init__(self, model: nn.Module, factor: float):
        super().__init__()
        if not factor > 0:
            raise ValueError(f"factor must be above 0, got {factor}")
        self.model, self.factor = model, factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * self.model(x)


def scaled_pgd(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float = 8 / 255,
    steps: int = 20,
    factors: Sequence[float] = FACTORS,
    loss: str = "ce",
    seed: int = 0,
) -> Tensor:
    """L∞ PGD on the logits times each of `factors`, 10⁻³ … 10³ by default; the worst per image (Carlini & Wagner 2016).

    Cross-entropy has no gradient where the softmax is saturated; a small factor gives it back.
    """
    x, y = check_inputs(model, x, y, eps)
    check_whole(steps=steps)
    scaled = [ScaledLogits(model, factor) for factor in factors]

    def attempt(surrogate: nn.Module):
        return lambda index: loss_pgd(surrogate, x[index], y[index], eps=eps, steps=steps, loss=loss, seed=seed)

    with frozen(model):
        x_adv = worst_of(model, x, y, [attempt(surrogate) for surrogate in scaled])
    return check_output(x, x_adv, eps, "scaled PGD")

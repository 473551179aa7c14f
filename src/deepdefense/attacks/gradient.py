"""FGSM, PGD and APGD as torchattacks has them (Kim 2020), L∞, made safe to call on any model.

They maximise cross-entropy, so a saturated softmax stops them; `adaptive.loss_pgd` takes other losses.
"""

from torch import Tensor, nn

from ..arguments import check_whole
from .contract import step_size
from .libraries import bounded, library

EPS = 8 / 255


def _torchattacks(name: str, model: nn.Module, x: Tensor, y: Tensor, seed: int, /, **options) -> Tensor:
    make = getattr(library("torchattacks"), name)
    return bounded(name, model, x, y, eps=options["eps"], seed=seed, run=lambda view, x, y: make(view, **options)(x, y))


def fgsm(model: nn.Module, x: Tensor, y: Tensor, *, eps: float = EPS, seed: int = 0) -> Tensor:
    """One step of size eps along the sign of the gradient (Goodfellow et al. 2015). `seed` has no effect."""
    return _torchattacks("FGSM", model, x, y, seed, eps=eps)


def pgd(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float = EPS,
    steps: int = 20,
    alpha: float | None = None,
    random_start: bool = True,
    seed: int = 0,
) -> Tensor:
    """Projected gradient ascent, last iterate (Madry et al. 2018). alpha: step size, eps/4 by default."""
    check_whole(steps=steps)
    alpha = step_size(alpha, eps)
    return _torchattacks("PGD", model, x, y, seed, eps=eps, alpha=alpha, steps=steps, random_start=random_start)


def apgd(model: nn.Module, x: Tensor, y: Tensor, *, eps: float = EPS, steps: int = 100, restarts: int = 1, seed: int = 0) -> Tensor:
    """Auto-PGD on cross-entropy (Croce & Hein 2020), 100 steps as its authors run it (torchattacks' default is 10).

    Where it finds nothing it returns the clean image: judge it by the model's prediction, not by whether the image moved.
    torchattacks reseeds itself with `seed` on each call, so give each batch its own seed (`protocol` does).
    """
    check_whole(steps=steps, restarts=restarts)
    return _torchattacks("APGD", model, x, y, seed, norm="Linf", eps=eps, steps=steps, n_restarts=restarts, seed=seed)

"""FGSM, PGD and APGD as torchattacks has them (Kim 2020), L∞, made safe to call on any model.

They maximise cross-entropy, so a saturated softmax stops them; `adaptive.loss_pgd` takes other losses.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .guard import check_inputs, check_output, frozen, seeded

EPS = 8 / 255


def _torchattacks():
    try:
        import torchattacks
    except ImportError as error:
        raise ImportError(
            "torchattacks is not installed; run `pip install --no-deps torchattacks==3.5.1` "
            "(without --no-deps it brings an old requests with known vulnerabilities)"
        ) from error
    return torchattacks


class _View(nn.Module):
    """The model as torchattacks may see it: switches of mode stop here, and `release` lets go of the model, since
    torchattacks keeps every object that it was ever given (a mutable default argument in `Attack.__setattr__`)."""

    def __init__(self, model: nn.Module, device: torch.device):
        super().__init__()
        self._model = [model]  # in a list, so that it is no submodule
        self.anchor = nn.Parameter(torch.empty(0, device=device), requires_grad=False)  # it looks for a parameter's device

    def forward(self, x: Tensor) -> Tensor:
        return self._model[0](x)

    def release(self) -> None:
        self._model.clear()


def _run(name: str, model: nn.Module, x: Tensor, y: Tensor, eps: float, seed: int, make: Callable) -> Tensor:
    check_inputs(model, x, y, eps)
    if len(x) == 0:
        return x.clone()
    view = _View(model, x.device).eval()
    with frozen(model), seeded(x.device, seed), torch.enable_grad():
        x_adv = make(_torchattacks(), view)(x.detach(), y)
    view.release()
    return check_output(x, x_adv, eps, name)


def _positive(**numbers: float) -> None:
    for name, number in numbers.items():
        if not number > 0:
            raise ValueError(f"{name} must be above 0, got {number}")


def fgsm(model: nn.Module, x: Tensor, y: Tensor, *, eps: float = EPS, seed: int = 0) -> Tensor:
    """One step of size eps along the sign of the gradient (Goodfellow et al. 2015). Draws nothing: `seed` has no effect."""
    return _run("FGSM", model, x, y, eps, seed, lambda ta, m: ta.FGSM(m, eps=eps))


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
    alpha = eps / 4 if alpha is None else alpha
    _positive(steps=steps, alpha=alpha + (eps == 0))
    options = dict(eps=eps, alpha=alpha, steps=steps, random_start=random_start)
    return _run("PGD", model, x, y, eps, seed, lambda ta, m: ta.PGD(m, **options))


def apgd(
    model: nn.Module, x: Tensor, y: Tensor, *, eps: float = EPS, steps: int = 100, restarts: int = 1, seed: int = 0
) -> Tensor:
    """Auto-PGD on cross-entropy (Croce & Hein 2020), 100 steps as its authors run it (torchattacks' default is 10).

    Where it finds nothing it returns the clean image: judge it by the model's prediction, not by whether the image moved.
    torchattacks reseeds itself with `seed` on each call, so give each batch its own seed (`protocol` does).
    """
    _positive(steps=steps, restarts=restarts)
    options = dict(norm="Linf", eps=eps, steps=steps, n_restarts=restarts, seed=seed, loss="ce")
    return _run("APGD", model, x, y, eps, seed, lambda ta, m: ta.APGD(m, **options))

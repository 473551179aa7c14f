"""Attacks of other libraries, made safe to call: they see a view of the model, never the model itself."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType

import torch
from torch import Tensor, nn

from ..inference import frozen, seeded
from .contract import check_inputs, check_output

INSTALL = {
    "torchattacks": "`pip install --no-deps torchattacks==3.5.1` (without --no-deps it brings an old requests with known vulnerabilities)",
    "foolbox": "`pip install foolbox`",
    "pyautoattack": "`pip install pyautoattack`",
}


def library(name: str) -> ModuleType:
    """The module `name`, such as "foolbox" or "pyautoattack.fab_pt"; an ImportError says how to install it."""
    package = name.partition(".")[0]
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(f"{package} is not installed; run {INSTALL[package]}") from error


class View(nn.Module):
    """The model as an attack library may see it: switches of mode stop here, and `release` lets go of the model, since
    torchattacks leaves what it was given in a reference cycle (a default argument in `Attack.__setattr__`)."""

    def __init__(self, model: nn.Module, like: Tensor):
        super().__init__()
        self._model = [model]  # in a list, so that it is no submodule
        self._dtype = like.dtype
        # Libraries look for a parameter's device.
        self.anchor = nn.Parameter(torch.empty(0, device=like.device), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return self._model[0](x.to(self._dtype))  # official FAB turns images into float32

    def release(self) -> None:
        self._model.clear()


@contextmanager
def viewed(model: nn.Module, x: Tensor, seed: int) -> Iterator[View]:
    """A view of the frozen model, gradients on, the global generators at `seed`; afterwards everything as before."""
    view = View(model, x).eval()
    try:
        with frozen(model), seeded(x.device, seed), torch.enable_grad():
            yield view
    finally:
        view.release()


def bounded(
    name: str,
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    seed: int,
    run: Callable[[View, Tensor, Tensor], Tensor],
    norm: str = "linf",
) -> Tensor:
    """`run(view, x, y)` of a library's attack, its inputs checked, its output proven to be in the ball and in [0, 1].

    eps: at most 1 in L∞; an L2 radius may be larger
    """
    if norm != "linf" and not eps >= 0:
        raise ValueError(f"eps must be 0 or more, got {eps}")
    check_inputs(model, x, y, eps if norm == "linf" else 0.0)
    if len(x) == 0 or eps == 0:
        return x.detach().clone()
    x = x.detach()
    with viewed(model, x, seed) as view:
        x_adv = run(view, x.contiguous(), y.long()).detach().to(x.dtype)
    return check_output(x, x_adv, eps, name, norm)


def classes_of(view: View, x: Tensor) -> int:
    """How many classes the model tells apart: the width of its output for one image."""
    with torch.no_grad():
        return view(x[:1]).shape[1]

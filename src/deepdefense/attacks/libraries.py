"""Attacks of other libraries, made safe to call: they see a view of the model, never the model itself."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType

import torch
from torch import Tensor, nn

from ..arguments import check_logits_type, checked_number
from ..inference import answers, frozen, seeded
from .contract import check_classes, check_images, check_inputs, check_output, distances, rounding

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


def _finite(gradient: Tensor) -> Tensor:
    return gradient if math.isfinite(gradient.sum()) else gradient.nan_to_num()


@dataclass
class _Attacked:
    """Images x that an attack is on, with what it has met: `silent` (B,), where the model gave no answer, and to which images."""

    x: Tensor
    y: Tensor
    eps: float
    norm: str
    silent: Tensor
    unanswered: Tensor | None = None
    checked: bool = False  # its labels


class View(nn.Module):
    """The model as an attack library may see it: switches of mode stop here, and `release` lets go of the model, since
    torchattacks leaves what it was given in a reference cycle (a default argument in `Attack.__setattr__`)."""

    def __init__(self, model: nn.Module, like: Tensor):
        super().__init__()
        self.training = False
        self._model = [model]  # in a list, so that it is no submodule
        self._dtype, self._default = like.dtype, torch.get_default_dtype()
        self._attacked: _Attacked | None = None
        # Libraries look for a parameter's device.
        self.anchor = nn.Parameter(torch.empty(0, device=like.device), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self._dtype)  # official FAB turns images into float32
        known = self._attacked
        if known is None:
            return self._asked(x)
        if x.requires_grad:
            x.register_hook(_finite)
        logits = self._asked(x)
        if not known.checked:
            check_logits_type(logits, len(x))
            check_classes(known.y, logits.shape[1])
            known.checked = True
        return logits if math.isfinite(logits.detach().sum()) else _made_finite(known, x.detach(), logits)

    def _asked(self, x: Tensor) -> Tensor:
        if self._default == torch.get_default_dtype():
            return self._model[0](x)
        with default_dtype(self._default):
            return self._model[0](x)

    def attacked(self, x: Tensor, y: Tensor, eps: float, norm: str) -> None:
        """From now on stand between the model and an attack on images x that cannot deal with NaN.

        The first answer checks the labels y. Logits and gradients arrive finite, and an image within eps of one of x
        to which the model gives no answer is kept: it is a mistake found, however the attack reads it.
        """
        self._attacked = _Attacked(x, y, eps, norm, torch.zeros(len(x), dtype=torch.bool, device=x.device))

    def worst(self, x_adv: Tensor) -> Tensor:
        """`x_adv`, but for images that the model gets right there and gave no answer to elsewhere: then that one."""
        known = self._attacked
        if known is None or known.unanswered is None:
            return x_adv
        index = known.silent.nonzero().squeeze(1)
        with torch.no_grad():
            right = index[answers(self._asked(x_adv[index].to(self._dtype))) == known.y[index]]
        x_adv = x_adv.clone()
        x_adv[right] = known.unanswered[right].to(x_adv.dtype)
        return x_adv

    def release(self) -> None:
        self._model.clear()
        self._attacked = None


def _made_finite(known: _Attacked, x: Tensor, logits: Tensor) -> Tensor:
    """`logits` with great numbers for infinite ones, and 0, −1, −2, … (no ties) where there is no answer; `known` takes note of those."""
    silent = answers(logits.detach()) < 0
    clean, eps, norm = known.x, known.eps, known.norm
    if known.unanswered is None:
        known.unanswered = clean.clone()
    for image in x[silent]:
        if known.silent.all():
            break
        near = distances(clean, image.expand_as(clean), norm) <= eps + rounding(clean, eps, norm)
        near &= ~known.silent & (image >= 0).all() & (image <= 1).all()
        known.unanswered[near] = image
        known.silent |= near
    great = torch.finfo(logits.dtype).max / 8
    stand_in = -torch.arange(logits.shape[1], device=logits.device, dtype=logits.dtype)
    return torch.where(silent[:, None], stand_in, logits).clamp(-great, great)


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """The type of float tensors that are made without one; afterwards as before."""
    before = torch.get_default_dtype()
    if dtype == before:
        yield
        return
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def viewed(model: nn.Module, x: Tensor, seed: int) -> Iterator[View]:
    """A view of the frozen model, gradients on, the global generators at `seed`; afterwards everything as before.

    Foreign code counts on float32 as the default type; the model still finds what it is used to.
    """
    view = View(model, x)
    try:
        with frozen(model), seeded(x.device, seed, model), torch.enable_grad(), default_dtype(torch.float32):
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
    eps = checked_number("eps", eps)
    if norm != "linf" and not eps >= 0:
        raise ValueError(f"eps must be 0 or more, got {eps}")
    check = check_inputs if eps == 0 else check_images  # the first pass of an attack checks the labels
    x, y = check(model, x, y, eps if norm == "linf" else 0.0)
    if len(x) == 0 or eps == 0:
        return x.clone()
    with viewed(model, x, seed) as view:
        view.attacked(x, y, eps, norm)
        x_adv = view.worst(run(view, x, y).detach().to(x.dtype))
    return check_output(x, x_adv, eps, name, norm)


def classes_of(view: View, x: Tensor) -> int:
    """How many classes the model tells apart: the width of its output for one image."""
    with torch.no_grad():
        return view(x[:1]).shape[1]

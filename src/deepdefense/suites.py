"""The suites by name: `suite(name, model, norm)` -> {attack name: attack}. To add one, write a function and give it a line.

An attack with a keyword `eps` is bounded, `attack(model, x, y, *, eps, seed) -> x_adv`; one without is of minimum norm,
`attack(model, x, y, *, seed) -> x_adv`.
"""

from collections.abc import Callable, Mapping
from functools import partial

from torch import Tensor, nn

from . import attacks
from .attacks import autoattack

Attack = Callable[..., Tensor]
STANDARD = "standard"

# The gradient attacks of the paper's first table, through torchattacks.
PAPER: dict[str, Attack] = {
    "FGSM": attacks.fgsm,
    "PGD-20": partial(attacks.pgd, steps=20),
    "APGD-100": partial(attacks.apgd, steps=100),
}
ADAPTIVE: dict[str, Attack] = {
    "PGD-100 margin": partial(attacks.loss_pgd, steps=100, loss="margin"),
    "PGD-100 CE": partial(attacks.loss_pgd, steps=100, loss="ce"),
    "PGD-100 MSE": partial(attacks.loss_pgd, steps=100, loss="mse"),
}


def _paper(model: nn.Module, norm: str) -> dict[str, Attack]:
    return PAPER if norm == "linf" else {}


def _standard(model: nn.Module, norm: str) -> dict[str, Attack]:
    parts = (autoattack.apgd_ce, autoattack.apgd_t, autoattack.fab_t, autoattack.square)
    return {name: partial(part, norm=norm) for name, part in zip(autoattack.PARTS, parts, strict=True)}


def _adaptive(model: nn.Module, norm: str) -> dict[str, Attack]:
    return ADAPTIVE if norm == "linf" else {}


# One line a suite.
SUITES: dict[str, Callable[[nn.Module, str], Mapping[str, Attack]]] = {
    "paper": _paper,
    STANDARD: _standard,
    "adaptive": _adaptive,
}


def suite(name: str, model: nn.Module, norm: str = "linf") -> dict[str, Attack]:
    """The attacks of suite `name` on `model` for `norm` ("linf" or "l2"); empty if it has none for that norm."""
    if name not in SUITES:
        raise ValueError(f"suite must be one of {', '.join(SUITES)}; got {name!r}")
    return dict(SUITES[name](model, norm))

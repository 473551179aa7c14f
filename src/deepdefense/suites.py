"""The suites by name: `suite(name, model, x, norm)` -> {attack name: attack}. To add one, write a function and give it a line.

An attack with a keyword `eps` is bounded, `attack(model, x, y, *, eps, seed) -> x_adv`; one without is of minimum norm,
`attack(model, x, y, *, seed) -> x_adv`.
"""

from collections.abc import Callable, Mapping
from functools import partial

from torch import Tensor, nn

from . import attacks
from .attacks import autoattack, minimum_norm, paper

Attack = Callable[..., Tensor]
STANDARD = "standard"

# The gradient attacks of the paper's first table, through torchattacks, and PGD on the margin: quick.
GRADIENT: dict[str, Attack] = {
    "FGSM": attacks.fgsm,
    "PGD-20": partial(attacks.pgd, steps=20),
    "APGD-100": partial(attacks.apgd, steps=100),
    "PGD-20 margin": partial(attacks.loss_pgd, steps=20, loss="margin"),
}


def _standard(model: nn.Module, x: Tensor, norm: str) -> dict[str, Attack]:
    parts = (autoattack.apgd_ce, autoattack.apgd_t, autoattack.fab_t, autoattack.square)
    return {name: partial(part, norm=norm) for name, part in zip(autoattack.PARTS, parts, strict=True)}


# One line a suite: (model, some images, norm) -> {name: attack}.
SUITES: dict[str, Callable[[nn.Module, Tensor, str], Mapping[str, Attack]]] = {
    "gradient": lambda model, x, norm: GRADIENT if norm == "linf" else {},
    "paper": lambda model, x, norm: paper.BOUNDED if norm == "linf" else paper.BOUNDED_L2 | paper.MINIMUM_NORM,
    STANDARD: _standard,
    "adaptive": lambda model, x, norm: attacks.suite_adaptive(model, x) if norm == "linf" else {},
    "minimum_norm": lambda model, x, norm: minimum_norm.MINIMUM[norm],
}


def suite(name: str, model: nn.Module, x: Tensor, norm: str = "linf") -> dict[str, Attack]:
    """The attacks of suite `name` on `model` for `norm` ("linf" or "l2"); empty if it has none for that norm.

    x: an image or more (B, C, H, W); they tell which attacks the model admits
    """
    if name not in SUITES:
        raise ValueError(f"suite must be one of {', '.join(SUITES)}; got {name!r}")
    return dict(SUITES[name](model, x, norm))


def describe(attack: Attack) -> str:
    """The attack in words: its function's full name and the settings bound to it."""
    settings = ""
    if isinstance(attack, partial):
        settings = ", ".join(f"{key}={value!r}" for key, value in sorted(attack.keywords.items()))
        attack = attack.func
    name = f"{attack.__module__}.{attack.__qualname__}" if hasattr(attack, "__qualname__") else repr(type(attack))
    return f"{name}({settings})"

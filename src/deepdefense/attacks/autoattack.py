"""The standard suite: AutoAttack (Croce & Hein 2020) by its authors' own code, the package `pyautoattack`.

Four parts, one after the other, each on the images that are still right: APGD on cross-entropy and on the targeted
DLR loss (100 steps), FAB-T (100 steps; Croce & Hein 2020b) and Square (5,000 queries; Andriushchenko et al. 2020),
nine target classes where there are so many. The images are attacked exactly as by
`AutoAttack.run_standard_evaluation`. What is added: the model and the global random state stay as they were, warnings
become part of the result, and a killed run goes on.
"""

import inspect
import textwrap
from collections.abc import Callable
from functools import cache

import torch
from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted
from pyautoattack.fab_pt import FABAttack_PT
from pyautoattack.square import SquareAttack
from torch import Tensor, nn

from ..arguments import check_ball, check_whole, checked_number
from ..inference import reseed
from ..losses import targeted_margin
from .contract import check_inputs, check_output
from .libraries import viewed

AUTHORS_NORM = {"linf": "Linf", "l2": "L2"}
TARGETS = 9
DLR_CLASSES = 4  # the targeted DLR loss divides by a difference of the first, third and fourth largest logits


class Log:
    """What the authors' code takes for its logger: keeps the warnings."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def warning(self, message: str) -> None:
        self.messages.append(message.removesuffix(" See flags_doc.md for details."))

    def debug(self, message: str) -> None:
        pass

    info = debug


def logits_of(model: nn.Module, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """`model` as the authors' code wants it: float32 in and out, and an output that may be written into (Square
    does)."""

    def logits(x: Tensor) -> Tensor:
        return model(x.to(dtype)).to(torch.float32, copy=True)

    return logits


def _common(norm: str, eps: float, seed: int, x: Tensor) -> dict:
    return dict(norm=AUTHORS_NORM[norm], eps=eps, seed=seed, device=x.device, n_restarts=1, verbose=False)


def _apgd_ce(logits, common, classes, log, steps=100):
    return APGDAttack(logits, n_iter=steps, loss="ce", eot_iter=1, rho=0.75, logger=log, **common)


class _MarginTargeted(APGDAttack_targeted):
    """APGD-T on the difference of the two logits: for two or three classes there is no targeted DLR loss."""

    def dlr_loss_targeted(self, x, y):
        return targeted_margin(x, y, self.y_target)


def _apgd_t(logits, common, classes, log, steps=100):
    targets = min(TARGETS, classes - 1)
    make = APGDAttack_targeted
    if classes < DLR_CLASSES:
        make = _MarginTargeted
        log.warning(f"the targeted DLR loss needs {DLR_CLASSES} classes and the model has {classes}: the margin stood in")
    return make(logits, n_iter=steps, n_target_classes=targets, eot_iter=1, rho=0.75, logger=log, **common)


def _fab_t(logits, common, classes, log, steps=100):
    targets = min(TARGETS, classes - 1)
    return FABAttack_PT(logits, n_iter=steps, targeted=True, n_target_classes=targets, **common)


@cache
def _square_inside() -> type[SquareAttack]:
    """The authors' attack with its first squares inside the image.

    In L2 it lays h // s squares of side s = h // 5, from (h − 5s) // 2 on: for 12, 14, 18, 19 or 24 pixels, and for
    some oblong images, the last one would end outside, and torch refuses. Here those that fit are laid.
    """
    source = textwrap.dedent(inspect.getsource(SquareAttack.attack_single_run))
    for side in "hw":
        before, after = f"in range({side} // s)", f"in range(({side} - sp_init) // s)"
        if source.count(before) != 2:  # L2 and L1
            raise ImportError("this version of pyautoattack is not the one whose Square attack can be mended; install 0.2.0")
        source = source.replace(before, after)
    space: dict[str, object] = {}
    exec(compile(source, f"<{SquareAttack.__module__}, mended>", "exec"), vars(inspect.getmodule(SquareAttack)), space)
    return type("SquareInside", (SquareAttack,), space)


def _squares_fit(height: int, width: int) -> bool:
    side = height // 5
    return side == 1 or all((height - 5 * side) // 2 + length // side * side <= length for length in (height, width))


def _square(logits, common, classes, log, queries=5000, shape=(32, 32)):
    fits = common["norm"] != "L2" or _squares_fit(*shape)
    make = SquareAttack if fits else _square_inside()
    return make(logits, p_init=0.8, n_queries=queries, resc_schedule=False, **common)


MAKERS = {"APGD-CE": _apgd_ce, "APGD-T": _apgd_t, "FAB-T": _fab_t, "Square": _square}
PARTS = tuple(MAKERS)


def check(model: nn.Module, x: Tensor, y: Tensor, eps: float, norm: str, **counts: int) -> tuple[Tensor, Tensor]:
    check_ball(eps, norm, AUTHORS_NORM)
    if x.dim() != 4:
        raise ValueError(f"AutoAttack needs images (B, C, H, W), got shape {tuple(x.shape)}")
    if norm == "l2" and min(x.shape[2:]) < 5:
        raise ValueError(f"Square in L2 needs images of at least 5 × 5 pixels, got {tuple(x.shape[2:])}")
    check_whole(**counts)
    return check_inputs(model, x, y, 0.0)


def perturb(part: str, model, x, y, eps, norm, seed, log, **settings) -> Tensor:
    """One part on one batch: what the authors' attack returns, proven to lie in the ball."""
    x = x.detach().contiguous()
    with viewed(model, x, seed) as view, torch.no_grad():
        view.attacked(x, y, eps, norm)
        logits = logits_of(view, x.dtype)
        if part == "Square":
            settings["shape"] = tuple(x.shape[2:])
        attack = MAKERS[part](logits, _common(norm, eps, seed, x), logits(x[:1]).shape[1], log, **settings)
        reseed(x.device, seed)
        single = x.to(torch.float32, copy=True)
        moved = attack.perturb(single.clone(), y.clone())
        moved = torch.where(moved == single, x, moved.to(x.dtype))  # pixels that did not move are the image's own
        x_adv = view.worst(moved)
    return check_output(x, x_adv, eps, part, norm)


def _bounded(part: str, model, x, y, eps, norm, seed, **settings) -> Tensor:
    eps = checked_number("eps", eps)
    if eps == 0:  # as for the other attacks, a ball that holds nothing but the image
        return check_inputs(model, x, y, 0.0)[0].clone()
    x, y = check(model, x, y, eps, norm, **settings)
    if len(x) == 0:
        return x.clone()
    return perturb(part, model, x, y, eps, norm, seed, Log(), **settings)


def apgd_ce(model: nn.Module, x: Tensor, y: Tensor, *, eps: float = 8 / 255, norm: str = "linf", steps: int = 100, seed: int = 0) -> Tensor:
    """APGD on cross-entropy, (B, C, H, W); the clean image where nothing was found, as for the other three parts.

    x (B, C, H, W) in [0, 1], y (B,), eps in the same units; norm: "linf" or "l2". The authors reseed on every call.
    """
    return _bounded("APGD-CE", model, x, y, eps, norm, seed, steps=steps)


def apgd_t(model: nn.Module, x: Tensor, y: Tensor, *, eps: float = 8 / 255, norm: str = "linf", steps: int = 100, seed: int = 0) -> Tensor:
    """APGD on the DLR loss towards each of up to nine other classes, `steps` each.

    With two or three classes that loss is not defined, and the difference of the two logits takes its place.
    """
    return _bounded("APGD-T", model, x, y, eps, norm, seed, steps=steps)


def fab_t(model: nn.Module, x: Tensor, y: Tensor, *, eps: float = 8 / 255, norm: str = "linf", steps: int = 100, seed: int = 0) -> Tensor:
    """FAB towards each of up to nine other classes: the nearest image found, kept only within eps."""
    return _bounded("FAB-T", model, x, y, eps, norm, seed, steps=steps)


def square(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float = 8 / 255,
    norm: str = "linf",
    queries: int = 5000,
    seed: int = 0,
) -> Tensor:
    """Square attack on the margin: random search, no gradient."""
    return _bounded("Square", model, x, y, eps, norm, seed, queries=queries)

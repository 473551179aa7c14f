"""What every attack needs around it: inputs checked, the model frozen and put back, the random state kept, the ball proven."""

import inspect
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from ..inference import frozen, seeded

TOLERANCE = 1e-6  # float32 rounding of x + delta around 1 is 6e-8


class AttackError(RuntimeError):
    """An attack broke its own promise: left the ball or [0, 1], or gave NaN."""


def check_inputs(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> None:
    """One clear sentence for what an attack cannot work with."""
    if not isinstance(model, nn.Module):
        raise ValueError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    if not x.is_floating_point() or x.dim() < 2:
        raise ValueError(f"x must be a float tensor (B, ...) in [0, 1], got {x.dtype} of shape {tuple(x.shape)}")
    if y.shape != x.shape[:1] or y.dtype not in (torch.int64, torch.int32, torch.uint8):
        raise ValueError(f"y must hold {len(x)} class indices, got {y.dtype} of shape {tuple(y.shape)}")
    if not 0 <= eps <= 1:
        raise ValueError(f"eps must lie in [0, 1], in units of the image range (8/255 for 8 grey levels); got {eps}")
    if len(x) and not (x.min() >= 0 and x.max() <= 1):
        raise ValueError(f"images must lie in [0, 1]; these range from {x.min():.4g} to {x.max():.4g}")
    if len(x):
        with frozen(model), seeded(x.device, 0), torch.no_grad():
            classes = model(x[:1]).shape[1]
        if not (y.min() >= 0 and y.max() < classes):
            raise ValueError(f"y must hold class indices from 0 to {classes - 1}; these range from {y.min()} to {y.max()}")


def step_size(alpha: float | None, eps: float) -> float:
    """`alpha`, or eps/4 where it is None; a ValueError unless it is above 0 and at most 1."""
    if alpha is None:
        return eps / 4
    if not 0 < alpha <= 1:
        raise ValueError(f"alpha must be above 0 and at most 1, in units of the image range; got {alpha}")
    return alpha


NORMS = {"linf": torch.inf, "l2": 2, "l1": 1}


def distances(x: Tensor, x_adv: Tensor, norm: str) -> Tensor:
    """Distance of each image to its perturbed one, (B,); norm: "linf", "l2" or "l1"."""
    return (x_adv - x).flatten(1).norm(NORMS[norm], dim=1)


def check_output(x: Tensor, x_adv: Tensor, eps: float, name: str, norm: str = "linf") -> Tensor:
    """`x_adv`, proven to lie within distance eps of `x` and in [0, 1]; AttackError otherwise."""
    if len(x):
        distance = distances(x, x_adv, norm).max()
        if not distance <= eps + TOLERANCE:  # NaN fails too
            raise AttackError(f"{name} left the ball: {norm} distance {distance:.6g} with eps {eps:.6g}")
        if not (x_adv.min() >= 0 and x_adv.max() <= 1):
            raise AttackError(f"{name} left [0, 1]: values from {x_adv.min():.6g} to {x_adv.max():.6g}")
    return x_adv.detach()


Attack = Callable[..., Tensor]


def describe(attack: Attack) -> str:
    """The attack in words: its function's full name and the settings bound to it."""
    settings = ""
    if isinstance(attack, partial):
        settings = ", ".join(f"{key}={value!r}" for key, value in sorted(attack.keywords.items()))
        attack = attack.func
    name = f"{attack.__module__}.{attack.__qualname__}" if hasattr(attack, "__qualname__") else repr(type(attack))
    return f"{name}({settings})"


BALL_NORMS = ("linf", "l2")


def takes_eps(attack: Attack) -> bool:
    """Is `attack` bounded, with a keyword eps, or one of minimum norm, without?"""
    return "eps" in inspect.signature(attack).parameters

"""What every attack needs around it: inputs checked, the model frozen and put back, the random state kept, the ball proven."""

import inspect
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from .. import arguments
from ..inference import frozen, seeded

TOLERANCE = 1e-6  # float32 rounding of x + delta around 1 is 6e-8


class AttackError(RuntimeError):
    """An attack broke its own promise: left the ball or [0, 1], or gave NaN."""


def check_images(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """One clear sentence for what an attack cannot work with, whatever the model; else (x, y) as an attack works on them.

    These are plain tensors in the order of memory that foreign code counts on: x detached, contiguous and in [0, 1] to
    the bit, y int64. Memory is shared with what was handed over: neither is to be written into.
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    if not isinstance(x, Tensor):
        raise ValueError(f"x must be a torch.Tensor, got {type(x).__name__}")
    check_gradients_possible()
    if not x.is_floating_point() or x.dim() < 2:
        raise ValueError(f"x must be a float tensor (B, ...) in [0, 1], got {x.dtype} of shape {tuple(x.shape)}")
    y = arguments.check_labels(y, len(x), values=False)
    arguments.checked_number("eps", eps)  # text, None, a bool, several numbers
    if not isinstance(eps, int | float | Tensor | np.generic):
        raise ValueError(f"eps must be a Python number or a scalar of NumPy or torch, got {eps!r}; give float(eps)")
    if not 0 <= eps <= 1:
        raise ValueError(f"eps must lie in [0, 1], in units of the image range (8/255 for 8 grey levels); got {eps}")
    if x.is_inference():
        x, y = x.clone(), y.clone()  # autograd takes no tensor of inference mode
    x = x.detach().as_subclass(Tensor).contiguous()
    return in_range(x), y.detach().as_subclass(Tensor).contiguous()


def check_gradients_possible() -> None:
    """A ValueError within inference mode, where an attack would find no gradient and take the model for one that has none."""
    if torch.is_inference_mode_enabled():
        raise ValueError(
            "this was called within torch.inference_mode(), where no gradient can be taken (Lightning's Trainer tests and "
            "validates in it); call it outside, or within torch.inference_mode(False), or give the Trainer inference_mode=False"
        )


def check_classes(y: Tensor, classes: int) -> None:
    """A ValueError unless y holds indices of `classes` classes, of which an attack needs two."""
    if classes < 2:
        raise ValueError(f"the model must tell at least 2 classes apart, its logits have {classes}")
    arguments.check_labels(y, len(y), classes, values=True)


def check_inputs(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """`check_images`, and the labels against the model's classes, for which it is asked about one image."""
    x, y = check_images(model, x, y, eps)
    if len(x):
        with frozen(model), seeded(x.device, 0, model), torch.no_grad():
            logits = model(x[:1])
            arguments.check_logits_type(logits, 1)
            check_classes(y, logits.shape[1])
    return x, y


def step_size(alpha: float | None, eps: float) -> float:
    """`alpha`, or eps/4 where it is None; a ValueError unless it is above 0 and at most 1."""
    if alpha is None:
        return arguments.checked_number("eps", eps) / 4
    if not 0 < alpha <= 1:
        raise ValueError(f"alpha must be above 0 and at most 1, in units of the image range; got {alpha}")
    return alpha


NORMS = {"linf": torch.inf, "l2": 2, "l1": 1}


def distances(x: Tensor, x_adv: Tensor, norm: str) -> Tensor:
    """Distance of each image to its perturbed one, (B,); norm: "linf", "l2" or "l1"."""
    apart = (x_adv - x).flatten(1)
    return apart.abs_().amax(1) if norm == "linf" else apart.norm(NORMS[norm], dim=1)  # torch's own ∞-norm is slow


def _farthest(x: Tensor, x_adv: Tensor, norm: str) -> float:
    if norm == "linf":  # the same in one pass less
        return max(abs(end.item()) for end in (x_adv - x).aminmax())
    return distances(x, x_adv, norm).max().item()


def rounding(x: Tensor, eps: float, norm: str = "linf") -> float:
    """By how much the distance of an honest x + δ, ‖δ‖ ≤ eps, may exceed eps: the rounding of each pixel and of the norm.

    Of float32, the type in which foreign attacks compute, or of a coarser x (B, ...). 1.2e-6 in linf, for float32.
    """
    unit = max(torch.finfo(x.dtype).eps, torch.finfo(torch.float32).eps)
    pixels = max(x[0].numel(), 1) if len(x) else 1
    return TOLERANCE + unit * (pixels ** (1 / NORMS[norm]) + 8 * eps)


def in_range(x: Tensor) -> Tensor:
    """`x` in [0, 1]: what rounding alone has put beyond an end is moved onto it; a ValueError if it is farther out."""
    if x.numel() == 0:
        return x
    low, high = (end.item() for end in x.aminmax())
    if low >= 0 and high <= 1:
        return x
    slack = 4 * max(torch.finfo(x.dtype).eps, torch.finfo(torch.float32).eps)
    if not (low >= -slack and high <= 1 + slack):  # NaN too
        raise ValueError(f"images must lie in [0, 1]; these range from {low:.8g} to {high:.8g}")
    return x.clamp(0, 1)


def returned(x: Tensor, x_adv: Tensor, name: str) -> Tensor:
    """What the attack `name` returned for images x (B, ...), without its graph and in their type; AttackError if it is no such images.

    Whether they lie in the ball is for `check_output`.
    """
    if not isinstance(x_adv, Tensor):
        raise AttackError(f"{name} returned a {type(x_adv).__name__}; it must return the perturbed images alone, as a tensor")
    if x_adv.shape != x.shape:
        raise AttackError(f"{name} returned images of shape {tuple(x_adv.shape)} for {tuple(x.shape)}")
    if x_adv.device != x.device:
        raise AttackError(f"{name} returned images on {x_adv.device} for images on {x.device}")
    if not x_adv.is_floating_point():
        raise AttackError(f"{name} returned images of type {x_adv.dtype}; they must be floating-point, in [0, 1]")
    return x_adv.detach().to(x.dtype)


def check_output(x: Tensor, x_adv: Tensor, eps: float, name: str, norm: str = "linf") -> Tensor:
    """`x_adv`, proven to lie within distance eps of `x` and in [0, 1], both to rounding; AttackError otherwise.

    What rounding has put beyond 0 or 1 is moved onto it.
    """
    x_adv = x_adv.detach()
    if len(x):
        distance = _farthest(x, x_adv, norm)
        if not distance <= eps + rounding(x, eps, norm):  # NaN fails too
            raise AttackError(f"{name} left the ball: {norm} distance {distance:.8g} with eps {eps:.8g}")
        try:
            x_adv = in_range(x_adv)
        except ValueError:
            low, high = x_adv.min().item(), x_adv.max().item()
            raise AttackError(f"{name} left [0, 1]: values from {low:.8g} to {high:.8g}") from None
    return x_adv


Attack = Callable[..., Tensor]


def entry(table: Mapping, function):
    """What `table` has of `function`, or None: an object that is called may have no hash, as one of a dataclass."""
    try:
        return table.get(function)
    except TypeError:
        return None


def takes_eps(attack: Attack) -> bool:
    """Is `attack` bounded, with a keyword eps, or one of minimum norm, without?"""
    return "eps" in inspect.signature(attack).parameters

"""Arguments checked: one sentence that names what was wrong and says what is allowed."""

import difflib
import math
from collections.abc import Callable, Iterable
from decimal import Decimal
from fractions import Fraction
from numbers import Integral, Real
from typing import TypeGuard

import torch
from torch import Tensor, nn

Check = Callable[[object], str | None]


def is_number(value: object) -> TypeGuard[int | float]:
    """A finite int or float, and no bool."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def one_of(names: Iterable[str]) -> Check:
    names = list(names)
    return lambda value: None if isinstance(value, str) and value in names else f"one of {', '.join(names)}"


def number(low: float, high: float, *, above: bool = False) -> Check:
    """A number from `low` (or above it) to `high`."""
    words = f"a number {'above' if above else 'from'} {low:g} {'and at most' if above else 'to'} {high:g}"
    return lambda value: None if is_number(value) and (low < value if above else low <= value) and value <= high else words


def whole(least: int) -> Check:
    return lambda value: None if type(value) is int and value >= least else f"a whole number of at least {least}"


def or_none(check: Check) -> Check:
    """What `check` lets pass, or None for the default."""

    def checked(value) -> str | None:
        allowed = None if value is None else check(value)
        return allowed and f"{allowed}, or None"

    return checked


def yes_or_no(value) -> str | None:
    return None if type(value) is bool else "True or False"


def numbers_or_none(value) -> str | None:
    """A list of numbers, or None for the default."""
    good = value is None or (isinstance(value, list | tuple) and len(value) > 0 and all(map(is_number, value)))
    return None if good else "a list of numbers, or None"


def check_whole(**numbers: int) -> None:
    """A ValueError naming the setting unless every one is a whole number of at least 1."""
    for name, given in numbers.items():
        if allowed := whole(1)(given):
            raise ValueError(f"{name} must be {allowed}, got {given!r}")


def positive(**numbers: float) -> None:
    """ValueError unless every number is above 0."""
    for name, given in numbers.items():
        found = plain_number(given)
        if found is None or not found > 0:
            raise ValueError(f"{name} must be above 0, got {given!r}" if found is None else f"{name} must be above 0, got {given}")


def check_ball(eps: float, norm: str, norms: Iterable[str]) -> None:
    """A ValueError unless `norm` is one of `norms` and `eps` a radius in it: above 0, in units of the image range, for linf at most 1."""
    check_choice("norm", norm, norms)
    if not (eps > 0 and (norm != "linf" or eps <= 1)):
        raise ValueError(f"eps must be above 0, in units of the image range (8/255), and for linf at most 1; got {eps}")


def require(condition: bool, name: str, allowed: str, got) -> None:
    if not condition:
        raise ValueError(f"{name} must be {allowed}; got {got!r}")


def unknown_name(name: str, allowed: Iterable[str]) -> ValueError:
    """The error for a parameter that does not exist: names it, the nearest one that does, and all of them."""
    allowed = list(allowed)
    near = difflib.get_close_matches(name, allowed, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return ValueError(f"unknown parameter {name!r}{hint} Allowed: {', '.join(allowed)}.")


def check_choice(name: str, value, allowed: Iterable) -> None:
    """A ValueError naming parameter, value and choices unless `value` is one of `allowed`."""
    allowed = list(allowed)
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(str, allowed))}; got {value!r}")


def check_range(name: str, value, *, above: float | None = None, least: float | None = None, most: float | None = None) -> None:
    """A ValueError naming parameter, value and limits unless `value` is a number within them."""
    checked_number(name, value, above=above, least=least, most=most)


def plain_number(value) -> int | float | None:
    """`value` as a Python int or float if it is one real number, else None: no bool, no text, no array of one element.

    A scalar of NumPy or torch (and an array or tensor of no dimension, on any device) gives the value that it holds: 0.1 in
    float32 is 0.10000000149011612. A fraction or decimal gives the nearest float.
    """
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()
    if isinstance(value, bool):
        return None
    if isinstance(value, Integral):
        return int(value)
    return float(value) if isinstance(value, Real | Decimal) else None


def checked_number(
    name: str, value, *, above: float | None = None, least: float | None = None, most: float | None = None, unit: str = ""
) -> int | float:
    """`value` as a finite Python number within the limits; else a ValueError naming it and what is allowed.

    unit: words after the limits, such as "in units of the image range"
    """
    found = plain_number(value)
    if found is None or not math.isfinite(found) or not _within(found, above, least, most):
        raise ValueError(_refused(name, value, "a number", above, least, most, unit))
    return found


def checked_whole(name: str, value, *, least: int | None = None, most: int | None = None) -> int:
    """`value` as a Python int within the limits; a float without a fraction, such as 6.0, is whole. Else a ValueError."""
    found = plain_number(value)
    if found is None or not math.isfinite(found) or found != int(found) or not _within(found, None, least, most):
        raise ValueError(_refused(name, value, "a whole number" + " of" * (least is not None or most is not None), None, least, most))
    return int(found)


def from_text(text: str) -> int | float | None:
    """The number that `text` spells, as "6", "6.0", "1e2" or "8/255"; None if it spells none."""
    try:
        found = Fraction(text.strip())
    except (ValueError, ZeroDivisionError):
        return None
    return int(found) if found.denominator == 1 and not set(".eE/") & set(text) else float(found)


def _within(found, above, least, most) -> bool:
    return (above is None or found > above) and (least is None or found >= least) and (most is None or found <= most)


def _refused(name: str, value, kind: str, above, least, most, unit: str = "") -> str:
    limits = (("above", above), ("at least", least), ("at most", most))
    words = " and ".join(f"{word} {limit if isinstance(limit, int) else format(limit, 'g')}" for word, limit in limits if limit is not None)
    return f"{name} must be {kind}{words and ' ' + words}{unit and ', ' + unit}; got {_shown(value)}"


def _shown(value) -> str:
    """`value` in few words, with what to do about the commonest mistakes."""
    if isinstance(value, str):
        return repr(value) + (", which is text; give the number itself, without quotes" if from_text(value) is not None else "")
    shape = getattr(value, "shape", None)
    return f"{type(value).__name__} of shape {tuple(shape)}" if shape is not None and tuple(shape) else repr(value)


def check_batch(model: nn.Module, x: Tensor) -> None:
    """A ValueError unless `model` is a module that is not compiled and x a floating-point tensor (B, ...) of at least one image."""
    if not isinstance(model, nn.Module):
        raise ValueError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    if any(type(module).__name__ == "OptimizedModule" or module._compiled_call_impl is not None for module in model.modules()):
        raise ValueError(
            "the model is compiled (torch.compile), which keeps its layers and their second derivatives out of reach; hand over the "
            "module that it was made from"
        )
    if not isinstance(x, Tensor):
        raise ValueError(f"x must be a torch.Tensor, got {type(x).__name__}")
    if not x.is_floating_point():
        raise ValueError(
            f"x must hold floating-point images in [0, 1], got {x.dtype}" + ("; divide by 255" if x.dtype == torch.uint8 else "")
        )
    if x.dim() < 2 or x.numel() == 0:
        raise ValueError(f"x must hold at least one image, (B, ...) with a batch axis, got shape {tuple(x.shape)}")


def check_labels(y: Tensor, n: int, classes: int | None = None, *, values: bool | None = None, name: str = "y") -> Tensor:
    """`y` as int64 (n,), or a ValueError: it must hold a class index for each of n samples, of any integer type.

    classes: K, if known; then labels must be below it. values: look at the numbers themselves; by default on a CPU only
    """
    if not isinstance(y, Tensor):
        raise ValueError(f"{name} must be a torch.Tensor of class indices, got {type(y).__name__}")
    if y.shape != (n,):
        one_hot = y.dim() == 2 and y.shape[0] == n and y.shape[1] > 1
        hint = f"; if its rows are one-hot, take {name}.argmax(1)" if one_hot else ""
        hint = f"; take {name}.squeeze(1)" if y.dim() == 2 and y.shape[1] == 1 else hint
        raise ValueError(f"{name} must hold one class index for each of {n} samples, shape ({n},), got shape {tuple(y.shape)}{hint}")
    if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
        raise ValueError(f"{name} must hold class indices as whole numbers (any integer type), got {y.dtype}")
    y = y.clone() if y.is_inference() else y.long()
    if n and (y.device.type == "cpu" if values is None else values):
        low, high = y.aminmax()
        if low < 0 or (classes is not None and high >= classes):
            allowed = "of at least 0" if classes is None else f"from 0 to {classes - 1}"
            raise ValueError(f"{name} must hold class indices {allowed}; these range from {low} to {high}")
    return y


def check_logits_type(logits: Tensor, n: int) -> None:
    """A ValueError unless `logits` is a floating-point tensor (n, K) with K at least 2."""
    if not isinstance(logits, Tensor):
        raise ValueError(
            f"the model must return a tensor of logits (N, K), got {type(logits).__name__}; wrap it so that forward gives the logits alone"
        )
    if logits.dim() != 2 or len(logits) != n or logits.shape[1] < 2:
        raise ValueError(f"the model must return logits (N, K) with K at least 2: for {n} images it gave shape {tuple(logits.shape)}")
    if logits.layout != torch.strided:
        raise ValueError(f"the model must return dense logits, got {logits.layout}; end its forward with .to_dense()")
    if not logits.is_floating_point():
        raise ValueError(f"the model must return floating-point logits, got {logits.dtype}")


def check_run(model: nn.Module, x: Tensor):
    """`model(x)`; where it fails and its weights are of another type than the images, a ValueError says so."""
    try:
        return model(x)
    except RuntimeError as error:
        kinds = {str(p.dtype) for p in model.parameters() if p.is_floating_point()}
        if not kinds or str(x.dtype) in kinds:
            raise
        raise ValueError(
            f"the model fails on images of type {x.dtype}; its weights are {', '.join(sorted(kinds))}: convert one of them ({error})"
        ) from error

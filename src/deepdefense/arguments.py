"""Arguments checked: one sentence that names what was wrong and says what is allowed."""

import difflib
import math
from collections.abc import Callable, Iterable

Check = Callable[[object], str | None]


def is_number(value) -> bool:
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
    for name, number in numbers.items():
        if type(number) is not int or number < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, got {number!r}")


def positive(**numbers: float) -> None:
    """ValueError unless every number is above 0."""
    for name, number in numbers.items():
        if not number > 0:
            raise ValueError(f"{name} must be above 0, got {number}")


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
    limits = [("above", above), ("at least", least), ("at most", most)]
    words = [f"{word} {limit:g}" for word, limit in limits if limit is not None]
    inside = is_number(value) and not (
        (above is not None and value <= above) or (least is not None and value < least) or (most is not None and value > most)
    )
    if not inside:
        raise ValueError(f"{name} must be a number {' and '.join(words)}; got {value!r}")

"""Checks of objectives' options: each is a function that gives None for a good value, else what is allowed, in words."""

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


def yes_or_no(value) -> str | None:
    return None if type(value) is bool else "True or False"


def numbers_or_none(value) -> str | None:
    """A list of numbers, or None for the default."""
    good = value is None or (isinstance(value, list | tuple) and len(value) > 0 and all(map(is_number, value)))
    return None if good else "a list of numbers, or None"

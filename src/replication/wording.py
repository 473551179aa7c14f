"""Numbers as readers see them: true minus signs, intervals, percentages."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from deepdefense.evaluation.report import wilson

from .estimates import Estimate, mean_sd


def number(value: float, digits: int = 1, sign: bool = False) -> str:
    """A number with a true minus sign."""
    return f"{value:{'+' if sign else ''}.{digits}f}".replace("-", "−")


def several(n: int, noun: str) -> str:
    """ "1 run", "12 runs"."""
    return f"{n:,} {noun}{'s' * (n != 1)}"


def of_seeds(seeds: Sequence[int]) -> str:
    """ "seed 1" or "seeds 1, 2": which seeds, not how many."""
    return f"seed{'s' * (len(seeds) != 1)} {', '.join(map(str, seeds))}"


def span(numbers: Sequence[int]) -> str:
    """ "3" or "3–5", of whole numbers."""
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low}–{high}"


def interval(one: Estimate | None, unit: str = "", digits: int = 1, sign: bool = False) -> str:
    """An estimate in words: mean, 95 % interval over seeds, number of seeds."""
    if one is None:
        return "no usable run"
    if one.n == 1:
        return f"{number(one.mean, digits, sign)}{unit} (1 seed)"
    if not all(map(math.isfinite, (one.low, one.high))):
        return f"{number(one.mean, digits, sign) if math.isfinite(one.mean) else '∞'}{unit} ({one.n} seeds, no interval)"
    low, high = (number(end, digits, sign) for end in (one.low, one.high))
    return f"{number(one.mean, digits, sign)}{unit} [{low}, {high}] ({one.n} seeds)"


def bounds(one: Estimate, digits: int = 1, sign: bool = False) -> str:
    """An estimate for a column of a table: mean and 95 % interval, "−3.1 [−6.0, 0.4]"; the mean alone where there is no interval."""
    if not all(map(math.isfinite, (one.mean, one.low, one.high))):
        return number(one.mean, digits, sign) if math.isfinite(one.mean) else "∞"
    return f"{number(one.mean, digits, sign)} [{number(one.low, digits, sign)}, {number(one.high, digits, sign)}]"


def percent(share: float, n: int) -> str:
    """An accuracy in % with its 95 % Wilson interval over n images."""
    low, high = wilson(round(share * n), n)
    return f"{100 * share:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def weight(config: Mapping) -> str:
    """What a training run's regulariser is weighted by: "λ 0.3"; in a closed loop "target 0.2" or "target 0.2 from λ 0.02"; or nothing."""
    target, lam = config["options"].get("target"), f"λ {config['lam']:g}" if config["lam"] else ""
    return " from ".join(filter(None, (f"target {target:g}", lam))) if target else lam


NOTHING = "–"


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Mean ± standard deviation over seeds; the value alone if there is one; a dash if there is none, ∞ if any is."""
    values = [v for v in values if v is not None]
    if not values:
        return NOTHING
    if not np.isfinite(values).all():
        return "∞"
    mean, sd = mean_sd(values)
    return number(mean, digits) + (f" ± {sd:.{digits}f}" if len(values) > 1 else "")

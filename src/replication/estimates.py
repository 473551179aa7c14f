"""Values of several seeds: their mean, its interval, their spread."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t


def mean_sd(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation over seeds (n − 1); the latter is NaN for a single one, both are for none."""
    values = np.asarray(list(values), dtype=float)
    mean = float(values.mean()) if len(values) else math.nan
    return mean, float(values.std(ddof=1)) if len(values) > 1 else math.nan


@dataclass(frozen=True)
class Estimate:
    """Mean over seeds with its 95 % interval; both ends are infinite where none can be given."""

    mean: float
    low: float
    high: float
    n: int


def tails(choices: int = 1, favours: str = "high") -> tuple[float, float]:
    """What a 95 % interval leaves out below and above: 2.5 % each, and 2.5 %/choices at the end that speaks for a claim.

    choices: the value is the best of so many candidates, and luck is in the choosing; favours: "high" or "low" values speak for it.
    """
    if choices < 1 or favours not in ("high", "low"):
        raise ValueError(f"choices must be at least 1 and favours 'high' or 'low', got {choices} and {favours!r}")
    return (0.025 / choices, 0.025) if favours == "high" else (0.025, 0.025 / choices)


def student(values: Sequence[float], ends: tuple[float, float] = (0.025, 0.025)) -> tuple[float, float]:
    """Student's t interval of the mean of at least two values; ends: the shares left out below and above."""
    n = len(values)
    mean = math.fsum(values) / n
    error = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1) / n)
    below, above = (float(t.isf(end, n - 1)) * error for end in ends)
    return mean - below, mean + above


def estimate(values: Sequence[float], *, choices: int = 1, favours: str = "high") -> Estimate:
    """The estimate from one value a seed, by Student's t over the seeds alone; a ValueError if there is none.

    choices, favours: see `tails`. Both ends are infinite for a single seed and for seeds that are all equal: then the values are
    coarse, not certain, and only the images behind them can give an interval (`replication.intervals.estimate`).
    """
    n = len(values)
    if n == 0:
        raise ValueError("values must hold at least one seed's value, got none")
    ends = tails(choices, favours)
    mean = math.fsum(values) / n
    if n == 1 or not all(map(math.isfinite, values)) or max(values) - min(values) <= 1e-12 * max(map(abs, values)):
        return Estimate(mean, -math.inf, math.inf, n)
    return Estimate(mean, *student(values, ends), n)

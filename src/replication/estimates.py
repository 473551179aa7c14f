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


LEAST_SEEDS = 3


@dataclass(frozen=True)
class Estimate:
    """Mean over seeds with its 95 % interval (Student's t); both ends are infinite below two seeds."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def enough(self) -> bool:
        return self.n >= LEAST_SEEDS


def estimate(values: Sequence[float]) -> Estimate:
    """The estimate from one value a seed; a ValueError if there is none."""
    n = len(values)
    if n == 0:
        raise ValueError("values must hold at least one seed's value, got none")
    mean = math.fsum(values) / n
    if n == 1 or not all(map(math.isfinite, values)):
        return Estimate(mean, -math.inf, math.inf, n)
    spread = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1))
    half = float(t.ppf(0.975, n - 1)) * spread / math.sqrt(n)
    return Estimate(mean, mean - half, mean + half, n)

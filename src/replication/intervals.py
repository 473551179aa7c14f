"""How sure a number is that was measured with a few trainings and a few images, and how large it could have been at all.

Seeds and images are two samples: the seeds stand for all trainings, the test images for all images. A mean over seeds has an error
from each, and images are shared by all seeds and networks, so their error does not shrink with more seeds. `estimate` gives an
interval for both: the wider, end by end, of

- Student's t over the seeds' values, since a bootstrap of three or five seeds is too narrow, and
- the percentiles of a two-way bootstrap (pigeonhole bootstrap, Owen 2007, doi:10.1214/07-AOAS122): in every draw seeds are
  resampled, then images, the same images for all seeds and for both networks that are compared. Plain percentiles, not BCa: with
  five seeds an acceleration would be made of noise, and the pigeonhole bootstrap errs to the wide side already.

Where a value was chosen, the best of k, the end of the interval that speaks for the claim is taken at 1 - 0.025/k (Bonferroni):
right whatever the k candidates have to do with each other. The other end stays, so a choice never helps a claim, nor hides one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .estimates import Estimate, student, tails

FEW = 30  # of fewer images no percentage is given: a single one would be more than three points
DRAWS = 4000
BLOCK = 4_000_000  # weights in memory at once
Statistic = Callable[[np.ndarray], np.ndarray]
"""weights of the images (B, N), how often each was drawn -> the quantity of each seed (B, S); NaN where a seed has no image left."""


@dataclass(frozen=True, eq=False)
class Samples:
    """One value an image and seed, (S, N), of images that all seeds share in this order; counted (S, N): which of them count."""

    values: np.ndarray
    counted: np.ndarray

    @classmethod
    def of(cls, rows: Sequence[tuple[np.ndarray, np.ndarray]]) -> "Samples":
        """From (values, counted) of each seed, both (N,); those of fewer images than the longest are filled with uncounted ones."""
        if not rows:
            raise ValueError("rows must hold the values of at least one seed, got none")
        longest = max(len(values) for values, _ in rows)
        values, counted = np.zeros((len(rows), longest)), np.zeros((len(rows), longest), bool)
        for number, (value, mask) in enumerate(rows):
            if len(value) != len(mask):
                raise ValueError(f"values and counted must be of the same images, got {len(value)} and {len(mask)}")
            counted[number, : len(mask)] = mask
            values[number, : len(value)] = np.where(mask, value, 0)
        if np.isnan(values).any():
            raise ValueError("values that count must be numbers, got NaN")
        return cls(values, counted)

    @property
    def images(self) -> tuple[int, ...]:
        """How many images count, seed by seed."""
        return tuple(int(n) for n in self.counted.sum(1))

    def mean(self, weights: np.ndarray) -> np.ndarray:
        """A Statistic: the mean of the values that count."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return (weights @ self.values.T) / (weights @ self.counted.T.astype(float))

    def median(self, weights: np.ndarray) -> np.ndarray:
        """A Statistic: their median (of an even number the mean of the middle two), for whole weights; values may be infinite."""
        found = np.full((len(weights), len(self.values)), np.nan)
        for seed, (values, counted) in enumerate(zip(self.values, self.counted, strict=True)):
            order = np.argsort(values[counted], kind="stable")
            ranked, drawn = values[counted][order], weights[:, counted][:, order].cumsum(1)
            if not len(ranked):
                continue
            total = drawn[:, -1]
            middle = [(drawn > (np.floor((total - 1 + up) / 2))[:, None]).argmax(1) for up in (0, 1)]
            low, high = ranked[middle[0]], ranked[middle[1]]
            with np.errstate(invalid="ignore"):
                found[:, seed] = np.where(total == 0, np.nan, np.where(low == high, low, (low + high) / 2))
        return found


def ratio(above: Statistic, below: Statistic) -> Statistic:
    """The quotient of two quantities on the same draws of images."""

    def quotient(weights):
        with np.errstate(invalid="ignore", divide="ignore"):
            return above(weights) / below(weights)

    return quotient


def two_way(
    statistic: Statistic, n_images: int, *, ends: tuple[float, float] = (0.025, 0.025), draws: int = DRAWS, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of the mean over seeds of `statistic`, seeds and images resampled; ends: the share left out below, above.

    Draws in which no seed has an image left are set aside. The answer depends on nothing but the arguments.
    """
    if n_images < 1 or draws < 1:
        raise ValueError(f"n_images and draws must be at least 1, got {n_images} and {draws}")
    n_seeds = statistic(np.ones((1, n_images))).shape[1]
    random = np.random.default_rng(seed)
    found, step = [], max(1, BLOCK // n_images)
    for start in range(0, draws, step):
        size = min(step, draws - start)
        drawn = random.integers(n_images, size=(size, n_images)) + n_images * np.arange(size)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=size * n_images).reshape(size, n_images).astype(float)
        of_seeds = random.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size=size).astype(float)
        values = statistic(weights)
        of_seeds[np.isnan(values)] = 0
        total = np.where(of_seeds > 0, of_seeds * np.where(np.isnan(values), 0, values), 0).sum(1)  # 0 * inf is no number
        with np.errstate(invalid="ignore"):
            found.append(total / of_seeds.sum(1))
    means = np.concatenate(found)
    means = np.sort(means[~np.isnan(means)])
    if not len(means):
        return -np.inf, np.inf
    below, above = int(np.floor(ends[0] * len(means))), int(np.ceil((1 - ends[1]) * len(means))) - 1
    return float(means[below]), float(means[min(max(above, 0), len(means) - 1)])


def estimate(
    statistic: Statistic,
    n_images: int,
    *,
    choices: int = 1,
    favours: str = "high",
    within: tuple[float, float] | None = None,
    counted: int | None = None,
    seed: int = 0,
) -> Estimate:
    """Mean over the seeds that have a value and the interval for seeds and images (see the module).

    choices, favours: the value is the best of so many, "high" or "low" ones speaking for the claim
    within: the least and the largest value that an image can have. Then the interval is never narrower than `counted` images allow
    (default: n_images): images of which none was seen may still be a share of 1 - tail^(1/n) (Clopper and Pearson's bound for none
    of n), so that equal values of all images and seeds are not taken for certainty, and never wider than such values can be.
    Without it equal values have no interval at all.
    """
    values = statistic(np.ones((1, n_images)))[0]
    values = values[~np.isnan(values)]
    if not len(values):
        raise ValueError("there is no seed with an image that counts")
    mean = float(values.mean()) if np.isfinite(values).all() else float(values.sum())
    if len(values) == 1 or not np.isfinite(values).all():
        return Estimate(mean, -np.inf, np.inf, len(values))
    ends = tails(choices, favours)
    over_seeds, over_both = student(values, ends), two_way(statistic, n_images, ends=ends, seed=seed)
    low, high = min(over_seeds[0], over_both[0]), max(over_seeds[1], over_both[1])
    if within is not None:
        unseen = [1 - end ** (1 / (counted or n_images)) for end in ends]
        low, high = min(low, mean - unseen[0] * (mean - within[0])), max(high, mean + unseen[1] * (within[1] - mean))
        low, high = max(low, within[0]), min(high, within[1])  # Student's t knows no bounds, a mean of such values has them
    elif high - low <= 1e-12 * abs(mean):
        low, high = -np.inf, np.inf
    return Estimate(mean, low, high, len(values))


def of_points(samples: Samples, *, choices: int = 1, favours: str = "high") -> Estimate:
    """`estimate` of a mean difference of two networks in percentage points; samples: -100, 0 or 100 an image."""
    fewest = min((n for n in samples.images if n), default=0)
    return estimate(samples.mean, samples.values.shape[1], choices=choices, favours=favours, within=(-100.0, 100.0), counted=fewest or None)


def of_lengths(above: Statistic, below: Statistic, n_images: int, *, choices: int = 1) -> Estimate:
    """`estimate` of the quotient of two lengths, which is never below 0; Student's t knows no such bound."""
    found = estimate(ratio(above, below), n_images, choices=choices)
    return replace(found, low=max(found.low, 0.0)) if np.isfinite(found.low) else found


@dataclass(frozen=True)
class Ceiling:
    """The largest gap that a comparison could show, in points, mean over seeds, and on how many images, seed by seed."""

    points: float
    images: tuple[int, ...]

    @property
    def few(self) -> bool:
        """Are there too few images in some seed for percentages?"""
        return min(self.images) < FEW

    def reaches(self, claimed: float) -> bool:
        """Could a gap of so many points have been seen?"""
        return not self.few and self.points >= claimed


def ceiling(kept: Samples) -> Ceiling:
    """The largest gap to a network that anything could show on these images; kept: 1 where that network keeps the image, else 0.

    Another network can at best keep all of them, so the gap is at most the share that this one loses.
    """
    there = [n for n in kept.images if n]
    if not there:
        raise ValueError("there is no seed with an image that counts")
    return Ceiling(100 * (1 - float(np.nanmean(kept.mean(np.ones((1, kept.values.shape[1])))))), tuple(there))

"""What a check says, and when a difference between two attacks is more than chance: shared by all nine checks."""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from scipy.stats import binom

from ..storage.files import read_json

JSON_NAME = "masking.json"
VERDICTS = ("pass", "fail", "not applicable")
NEVER = 0.01  # share of images that may go the wrong way where a sound evaluation has none
LITTLE = 0.05  # share that may change where a sound evaluation changes "little"
LEVEL = 0.01  # probability that a model at the allowed share fails all the same


@dataclass(frozen=True)
class Check:
    """One check. `numbers` are the scalars behind the verdict, `data` what its figure needs; both in JSON types."""

    number: int  # 1 to 9
    title: str
    verdict: str  # "pass", "fail" or "not applicable"
    reason: str  # one sentence
    rule: str  # when it fails
    numbers: dict
    data: dict

    def __post_init__(self):
        if self.verdict not in VERDICTS:
            raise ValueError(f"verdict must be one of {', '.join(VERDICTS)}; got {self.verdict!r}")

    def to_dict(self) -> dict:
        return asdict(self)


@dataclass(frozen=True)
class MaskingReport:
    """The nine checks of one model at one eps. `images`: how many were given; `attacked`: those it got right."""

    checks: tuple[Check, ...]
    eps: float
    images: int
    attacked: int
    settings: dict

    def __getitem__(self, number: int) -> Check:
        """The check `number`, 1 to 9."""
        return next(check for check in self.checks if check.number == number)

    @property
    def failed(self) -> tuple[int, ...]:
        """Numbers of the checks that failed."""
        return tuple(check.number for check in self.checks if check.verdict == "fail")

    @property
    def made(self) -> tuple[Check, ...]:
        """The checks that were applicable; these have a figure."""
        return tuple(check for check in self.checks if check.verdict != "not applicable")

    def to_dict(self) -> dict:
        """JSON form, without NaN or infinity."""
        return {**asdict(self), "checks": [check.to_dict() for check in self.checks], "failed": list(self.failed)}

    @classmethod
    def read(cls, folder: str | Path) -> "MaskingReport":
        """The report that `masking.report` left in `folder`."""
        record = read_json(Path(folder) / JSON_NAME)
        checks = tuple(Check(**check) for check in record["checks"])
        return cls(checks, *(record[name] for name in ("eps", "images", "attacked", "settings")))


def make(function: Callable, number: int, title: str, failures: list[str], fine: str, numbers: Mapping, data: Mapping) -> Check:
    """The outcome of the check `function`: "fail" with what failed, or "pass" with the sentence `fine`."""
    reason = "; ".join(failures) + "." if failures else fine
    verdict = "fail" if failures else "pass"
    return Check(number, title, verdict, reason, rule_of(function), as_json(numbers), as_json(data))


def skipped(function: Callable, number: int, title: str, reason: str) -> Check:
    """A check that could not be made, and why."""
    return Check(number, title, "not applicable", reason, rule_of(function), {}, {})


def rule_of(function: Callable) -> str:
    """The part of a check's docstring after "Fails": its rule, as one line."""
    text = " ".join((inspect.getdoc(function) or "").split())
    return text[text.index("Fails ") :] if "Fails " in text else text


def as_json(value):
    """Tensors, tuples and mappings as JSON types; a number that is not finite becomes None."""
    if isinstance(value, torch.Tensor):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def exceeds(count: int, n: int, allowed: float) -> bool:
    """Are `count` of `n` images too many for a true share of `allowed`? The binomial tail is then below LEVEL."""
    return bool(binom.sf(count - 1, n, allowed) < LEVEL)


def falls_short(count: int, n: int, wanted: float) -> bool:
    """Are `count` of `n` too few for a true share of `wanted`? The binomial tail is then below LEVEL."""
    return bool(binom.cdf(count, n, wanted) < LEVEL)

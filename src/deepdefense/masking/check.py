"""What a check says, when a difference between two attacks is more than chance, and whether any could have been seen.

A check that counts images which the white-box attacks left cannot fail where they left none. Its verdict is then "no
power" and not "pass".
"""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from scipy.stats import binom

from ..storage.files import read_json
from . import old_records

JSON_NAME = "masking.json"
VERDICTS = ("pass", "fail", "no power", "not applicable")
NEVER = 0.01  # share of images that may go the wrong way where a sound evaluation has none
LITTLE = 0.05  # share that may change where a sound evaluation changes "little"
LEVEL = 0.01  # probability that a model at the allowed share fails all the same
# Below 30 images no check passes. From 30 on a fault on a fifth of the images fails the rules that allow 1 %, and one on a
# third of them the rules that allow 5 %, each with a probability of 95 % or more. Of one image no rule can fail at all.
FEWEST = 30


@dataclass(frozen=True)
class Rule:
    """One way in which a check can fail: more than a share `allowed` of `n` images explains do what they must not.

    count: how many did; could: how many could have, such as the images that no white-box attack breaks
    """

    name: str
    count: int
    could: int
    n: int
    allowed: float

    @property
    def fails_from(self) -> int | None:
        """The smallest count that fails, or None where not even all n images would."""
        return next((count for count in range(1, self.n + 1) if exceeds(count, self.n, self.allowed)), None)

    @property
    def blind(self) -> bool:
        """Could nothing that the images might have done have failed it?"""
        return self.fails_from is None or self.fails_from > self.could

    @property
    def words(self) -> str:
        if self.allowed == 0:
            return "one would fail"
        need = "not even all would fail" if self.fails_from is None else f"{self.fails_from} would fail"
        return f"{self.could} of {self.n} could count, {need}"

    def to_dict(self) -> dict:
        return {**asdict(self), "fails_from": self.fails_from}


@dataclass(frozen=True)
class Check:
    """One check. `numbers` are the scalars behind the verdict, `data` what its figure needs; both in JSON types."""

    number: int  # 1 to 9
    title: str
    verdict: str  # "pass", "fail", "no power" or "not applicable"
    reason: str  # one sentence or two
    rule: str  # when it fails
    numbers: dict
    data: dict
    power: list = field(default_factory=list)  # a `Rule` each, in JSON types, with the smallest count that fails: "fails_from"

    def __post_init__(self):
        if self.verdict not in VERDICTS:
            raise ValueError(f"verdict must be one of {', '.join(VERDICTS)}; got {self.verdict!r}")

    @property
    def in_part(self) -> bool:
        """Did it pass, although some of its rules could not have failed?"""
        return self.verdict == "pass" and any(rule.blind for rule in self.rules)

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The ways in which it could fail; empty for a check that was not made."""
        return tuple(Rule(**{key: value for key, value in row.items() if key != "fails_from"}) for row in self.power)

    def to_dict(self) -> dict:
        return asdict(self)

    @classmethod
    def from_record(cls, record: Mapping, attacked: int | None = None) -> "Check":
        """The check of a JSON record. One from before power was recorded is judged by the counts that it holds, if it does.

        attacked: how many images the whole report attacked
        """
        found = cls(**record)
        rules = [] if "power" in record or found.verdict != "pass" else [Rule(*row) for row in old_records.rules(record)]
        if not rules:
            return found
        verdict, reason = judge([], found.reason, rules, old_records.images(record, attacked))
        return cls(**{**record, "verdict": verdict, "reason": reason, "power": [rule.to_dict() for rule in rules]})


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
    def powerless(self) -> tuple[int, ...]:
        """Numbers of the checks that could not have failed, or not on so few images."""
        return tuple(check.number for check in self.checks if check.verdict == "no power")

    @property
    def made(self) -> tuple[Check, ...]:
        """The checks that were made, with power or without; these have a figure."""
        return tuple(check for check in self.checks if check.data)

    def to_dict(self) -> dict:
        """JSON form, without NaN or infinity."""
        checks = [check.to_dict() for check in self.checks]
        return {**asdict(self), "checks": checks, "failed": list(self.failed), "without power": list(self.powerless)}

    @classmethod
    def read(cls, folder: str | Path) -> "MaskingReport":
        """The report that `masking.report` left in `folder`."""
        record = read_json(Path(folder) / JSON_NAME)
        checks = tuple(Check.from_record(check, record["attacked"]) for check in record["checks"])
        return cls(checks, *(record[name] for name in ("eps", "images", "attacked", "settings")))


def make(
    function: Callable,
    number: int,
    title: str,
    failures: list[str],
    fine: str,
    numbers: Mapping,
    data: Mapping,
    rules: Sequence[Rule],
    images: int | None,
    also: str = "",
) -> Check:
    """The outcome of the check `function` on so many `images` (None: any number will do): "fail" with what failed, "pass"
    with the sentence `fine`, or "no power"; also: a sentence for all three."""
    verdict, reason = judge(failures, fine, rules, images)
    power = [rule.to_dict() for rule in rules]
    return Check(number, title, verdict, f"{reason} {also}".rstrip(), rule_of(function), as_json(numbers), as_json(data), as_json(power))


def judge(failures: Sequence[str], fine: str, rules: Sequence[Rule], images: int | None) -> tuple[str, str]:
    """(verdict, reason). A failure is one however few the images are; a pass needs FEWEST, and a rule that could have failed."""
    if failures:
        return "fail", "; ".join(failures) + "."
    if images is not None and images < FEWEST:
        return "no power", f"Nothing failed, but {_counted(images)} too few: no check passes on fewer than {FEWEST}."
    blind = [rule for rule in rules if rule.blind]
    if len(blind) == len(rules):
        return "no power", f"It could not have failed: {_listed(blind)}."
    return "pass", fine + (f" Without power: {_listed(blind)}." if blind else "")


def _counted(images: int) -> str:
    return "1 image is" if images == 1 else f"{images} images are"


def _listed(rules: Sequence[Rule]) -> str:
    """The rules by name, those of equal counts together."""
    together: dict[str, list[str]] = {}
    for rule in rules:
        together.setdefault(rule.words, []).append(rule.name)
    return "; ".join(f"{', '.join(names)} ({words})" for words, names in together.items())


def skipped(function: Callable, number: int, title: str, reason: str) -> Check:
    """A check that could not be made, and why."""
    return Check(number, title, "not applicable", reason, rule_of(function), {}, {})


def powerless(function: Callable, number: int, title: str, images: int, fewest: int) -> Check:
    """A check that needs `fewest` images to be made at all."""
    reason = f"{_counted(images)} too few: this check is made on {fewest} or more."
    return Check(number, title, "no power", reason[0].upper() + reason[1:], rule_of(function), {}, {})


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

"""From numbers to words: the rules of the extra claims E1 to E4 (book/plan_full_size.md), which are ours. They know no network, no file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..estimates import Estimate
from .verdicts import INCONCLUSIVE, LEAST_SEEDS

SUPPORTED, PARTLY_SUPPORTED, NOT_SUPPORTED = "supported", "partly supported", "not supported"
LEAST_RATIO = 10.0  # half of the lower end of the paper's 20 to 30 times
WORTH = 2.0  # points: an improvement below this is none


@dataclass(frozen=True)
class Measured:
    """One estimate with what the paper claims of it; claimed: points above adversarial training, None for a ratio of distances.

    estimate: None where the comparison had no power. made: False of a mistake that changes nothing in the networks compared, which can
    therefore not be what reaches a number.
    """

    estimate: Estimate | None
    claimed: float | None = None
    words: str = ""
    made: bool = True

    @property
    def known(self) -> bool:
        return self.estimate is not None and self.estimate.n >= LEAST_SEEDS

    @property
    def all_of_it(self) -> bool:
        """E1: does the mean reach the whole claimed gap, and the interval lie above 0?"""
        return self.known and self.estimate.mean >= self.claimed and self.estimate.low > 0

    @property
    def half_of_it(self) -> bool:
        """E2: does the mean reach half of the claimed gap with low > 0, or the ratio ten times with its low end?"""
        if not self.known:
            return False
        if self.claimed is None:
            return self.estimate.low >= LEAST_RATIO
        return self.estimate.mean >= self.claimed / 2 and self.estimate.low > 0

    @property
    def below_half(self) -> bool:
        most = LEAST_RATIO if self.claimed is None else self.claimed / 2
        return self.known and self.estimate.high < most


def nothing_learnt(groups: Sequence[Mapping[str, Measured]], complete: bool) -> str:
    """E1. One mapping {attack: gap} for each pair, variant and setting of three seeds; complete: is every pair and variant there, as a
    "no" needs?"""
    reached = [sum(one.all_of_it for one in group.values()) for group in groups]
    if any(number == len(group) and number for number, group in zip(reached, groups, strict=True)):
        return SUPPORTED
    if any(reached):
        return PARTLY_SUPPORTED
    below = [one.known and one.estimate.high < one.claimed for group in groups for one in group.values()]
    return NOT_SUPPORTED if complete and groups and all(below) else INCONCLUSIVE


def mistakes(alone: Mapping[str, Sequence[Measured]], together: Sequence[Measured]) -> tuple[str, list[str]]:
    """E2: (word, the mistakes that it names). alone: {mistake: what it was measured to do}, one entry a mistake, perhaps empty."""
    named = [name for name, found in alone.items() if any(one.half_of_it and one.made for one in found)]
    if named:
        return SUPPORTED, named
    if any(one.half_of_it for one in together):
        return PARTLY_SUPPORTED, []
    everything = [*alone.values(), together]
    nothing = all(found and all(one.below_half for one in found) for found in everything)
    return (NOT_SUPPORTED if nothing and alone else INCONCLUSIVE), []


def improves(found: Mapping[str, Estimate | None], missing: int = 0) -> tuple[str, list[str]]:
    """E3 and E4: (word, the candidates that it names). found: {candidate: points gained in the worst case}; None: not to be compared.

    missing: how many candidates of the plan have no run yet. These and those that cannot be compared stand in the way of a "no", which
    speaks of all, and of nothing else.
    """
    known = {name: one for name, one in found.items() if one is not None and one.n >= LEAST_SEEDS}
    named = [name for name, one in known.items() if one.low > 0]
    if named:
        return SUPPORTED, named
    all_known = known and len(known) == len(found) and not missing
    return (NOT_SUPPORTED if all_known and all(one.high < WORTH for one in known.values()) else INCONCLUSIVE), []

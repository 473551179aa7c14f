"""What a claim says beside what was measured, as numbers on one of four scales: the rows of the front page's figure."""

from dataclasses import dataclass

from ..estimates import Estimate

GAP, DISTANCE, PLAIN, ALIGNMENT = "gap", "distance", "plain", "alignment"  # scales


@dataclass(frozen=True)
class Bar:
    """One row: what is claimed, what was measured, and what could have been measured at most. Units are those of `scale`.

    claimed: (low, high) of the claim's number, both the same where it is one number; `in_words` says that the paper gives none, and
    these are the values that the plan's rule asks for, with None for an end that is open
    """

    label: str
    scale: str  # GAP: points above adversarial training; DISTANCE, PLAIN: times plain training; ALIGNMENT: difference to plain training
    measured: Estimate | None
    claimed: tuple[float | None, float | None]
    in_words: bool = False
    ceiling: float | None = None

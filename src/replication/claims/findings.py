"""What is claimed, and what the results say of it: the rows of the front page."""

from dataclasses import dataclass

from .bars import Bar


@dataclass(frozen=True)
class Claim:
    id: str
    text: str
    paper: str
    page: str  # where the evidence is


@dataclass(frozen=True)
class Finding:
    """What the results say of a claim, in words: under the paper's protocol, under the strict one, and the verdict.

    named: of our own claims, what a verdict of support rests on: networks of E1, mistakes of E2, candidates of E3 and E4.
    """

    claim: Claim
    paper_protocol: str
    strict: str
    verdict: str
    bars: tuple[Bar, ...] = ()
    named: tuple[str, ...] = ()

"""Does adversarial training do what a reader of the field expects of such a network? The bar of book/plan_full_size.md for C1, C2, C6."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from ..networks import Network
from ..wording import number, several
from . import quantities

DATA, CLEAN, ROBUST = "cifar10", 0.45, 0.20  # accuracy on the whole test set, and in the worst case at 8/255
BAR = f"{100 * CLEAN:g} % clean and {100 * ROBUST:g} % in the worst case"


@dataclass(frozen=True)
class Rival:
    """Adversarial training of a pair: means over `seeds`, accuracies in [0, 1]; reduced: is it smaller than the plan's full size?"""

    clean: float
    robust: float
    seeds: int
    reduced: bool

    @property
    def weak(self) -> bool:
        """Is it below the bar?"""
        return self.clean < CLEAN or self.robust < ROBUST

    def words(self) -> str:
        return f"{number(100 * self.clean)} % clean, {number(100 * self.robust)} % in the worst case, {several(self.seeds, 'seed')}"


def of(networks: Iterable[Network]) -> Rival | None:
    """That of `networks`, those of one pair; None where the plan has no bar, or none was attacked by all strict attacks."""
    mine = [n for n in networks if n.defence == "pgd-at" and n.config["data"] == DATA and n.record["status"] == "finished"]
    kept = {n.name: mask for n in mine if (mask := quantities.worst_case(n)) is not None}
    attacked = [n for n in mine if n.name in kept]
    if not attacked:
        return None
    robust = float(np.mean([kept[n.name].mean() for n in attacked]))
    return Rival(float(np.mean([n.clean for n in attacked])), robust, len(attacked), any(n.reduced for n in attacked))


def too_weak(seeds: Mapping[int, Mapping[str, Network]]) -> str:
    """Why a gap to adversarial training says nothing, {seed: {defence: network}}; "" where it says something.

    The bar is for full size: reduced runs say that they are.
    """
    found = of(one["pgd-at"] for one in seeds.values() if "pgd-at" in one)
    return f"adversarial training below the plan's {BAR} ({found.words()})" if found and found.weak and not found.reduced else ""

"""What an attack costs before it is run, so that the cheapest can come first: forward passes of one image, about.

An estimate from an attack's settings: nothing that is found depends on it, only the order in which it is looked for.
"""

import math
from collections.abc import Mapping

from ..attacks.contract import Attack
from ..attacks.forward_passes import passes_of
from ..attacks.neighbours import settings_of

COUNTS = ("steps", "queries", "restarts", "searches")  # settings by which the passes of other attacks are multiplied
UNKNOWN = 100  # passes of an attack that says nothing of its steps
LAYERS = 3  # that an attack on features goes through, about


def passes(attack: Attack, classes: int) -> int:
    """Forward passes that `attack` takes for one image that it does not break, about."""
    known = passes_of(attack, classes, LAYERS)
    if known is not None:
        return known
    settings = settings_of(attack)
    counts = [count for name in COUNTS if isinstance(count := settings.get(name), int)]
    return math.prod(counts) if counts else UNKNOWN


def in_order_of_cost(suites: Mapping[str, Mapping[str, Attack]], whole: str, classes: int) -> list[tuple[str, str | None]]:
    """(suite, attack) pairs, cheapest first; of the suite called `whole`, one pair (whole, None) for all of its attacks."""
    costs: dict[tuple[str, str | None], int] = {}
    for suite, members in suites.items():
        if suite == whole:
            costs[suite, None] = sum(passes(attack, classes) for attack in members.values())
        else:
            costs |= {(suite, name): passes(attack, classes) for name, attack in members.items()}
    return sorted(costs, key=costs.__getitem__)  # stable: equals stay in the order of the suites

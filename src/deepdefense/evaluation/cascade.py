"""What an attack costs before it is run, so that the cheapest can come first: forward passes of one image, about.

An estimate from an attack's settings: nothing that is found depends on it, only the order in which it is looked for.
"""

import math
from collections.abc import Callable, Mapping

from ..attacks import autoattack, features, gradient, minimum_norm, multi_targeted, paper
from ..attacks.neighbours import Attack, Settings, function_of, settings_of

COUNTS = ("steps", "queries", "restarts", "searches")  # settings by which the passes are multiplied
LISTS = ("factors", "betas")
UNKNOWN = 100  # passes of an attack that says nothing of its steps
ONE_STEP = (gradient.fgsm,)
LAYERS = 3  # that an attack on features goes through, about
TARGETS = 9


def _some_targets(settings: Settings, classes: int) -> int:
    return min(settings.get("targets") or TARGETS, classes - 1)


# By what else the passes are multiplied: (settings, classes) -> factor
TIMES: dict[Callable, Callable[[Settings, int], int]] = {
    multi_targeted.multi_targeted_pgd: lambda settings, classes: min(settings.get("targets") or classes - 1, classes - 1),
    paper.apgdt: lambda settings, classes: min(settings.get("targets") or classes - 1, classes - 1),
    paper.fab: lambda settings, classes: 2 * _some_targets(settings, classes),
    autoattack.apgd_t: _some_targets,
    autoattack.fab_t: lambda settings, classes: 2 * _some_targets(settings, classes),
    features.feature_pgd: lambda settings, classes: LAYERS,
    minimum_norm.deepfool: lambda settings, classes: 2,
}


def passes(attack: Attack, classes: int) -> int:
    """Forward passes that `attack` takes for one image that it does not break, about."""
    function, settings = function_of(attack), settings_of(attack)
    if function in ONE_STEP:
        return 1
    counts = [settings[name] for name in COUNTS if isinstance(settings.get(name), int)]
    counts += [len(settings[name]) for name in LISTS if settings.get(name)]
    times = TIMES[function](settings, classes) if function in TIMES else 1
    return math.prod(counts) * times if counts else UNKNOWN


def in_order_of_cost(suites: Mapping[str, Mapping[str, Attack]], whole: str, classes: int) -> list[tuple[str, str | None]]:
    """(suite, attack) pairs, cheapest first; of the suite called `whole`, one pair (whole, None) for all of its attacks."""
    costs: dict[tuple[str, str | None], int] = {}
    for suite, members in suites.items():
        if suite == whole:
            costs[suite, None] = sum(passes(attack, classes) for attack in members.values())
        else:
            costs |= {(suite, name): passes(attack, classes) for name, attack in members.items()}
    return sorted(costs, key=costs.__getitem__)  # stable: equals stay in the order of the suites

"""What E3 and E4 speak of: clean and worst-case accuracy of other uses of the idea, beside GNR's and adversarial training's."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from deepdefense.storage import files, paths

from .. import intervals, wording
from ..estimates import Estimate
from ..intervals import Samples
from ..networks import Network
from ..scope import CNN, DEFENCE_NAMES, SEARCH_SEEDS, VARIANTS
from . import quantities

READS = ("better_use", "paper")  # folders of data/results/, for the workflow; what lies in both is read from the headline's
COST = 0.01  # of clean accuracy, that an improvement of adversarial training may take
INSTEAD = ("tangential GNR", "GFA, fixed scale", "form −a")  # candidates of E3
BESIDE = ("PGD-7 + GFA-FIRST", "PGD-7 + tangential GNR")  # candidates of E4


def read(root: Path | None = None) -> list[Network]:
    """The CNNs on CIFAR-10 in data/results/paper and better_use that the plan does not keep for the search (seeds 0 and 10)."""
    root = root or paths.results_root()
    found = [Network(files.read_json(path), root / name) for name in READS for path in sorted((root / name).glob("*.json"))]
    found = [n for n in found if n.record.get("kind") == "training" and n.pair == CNN and n.seed not in SEARCH_SEEDS]
    return list({n.name: n for n in found}.values())


def kind_of(config: Mapping) -> str | None:
    """The candidate of E3 or E4 that a configuration is; None if it is none."""
    defence = config["objective"]
    if defence == "tangential-gnr":
        return INSTEAD[0]
    if defence.endswith("-fixed-scale"):
        return INSTEAD[1]
    if defence in VARIANTS and config["options"].get("form") == "negative":
        return INSTEAD[2]
    return {"pgd-at-gfa-first": BESIDE[0], "pgd-at-tangential": BESIDE[1]}.get(defence)


def kind(network: Network) -> str | None:
    """The candidate of E3 or E4 that a network is; None if it is none."""
    return kind_of(network.config)


def name_of(config: Mapping) -> str:
    """A defence as readers see it, the form −a told apart."""
    return f"{DEFENCE_NAMES[config['objective']]}{', form −a' if kind_of(config) == INSTEAD[2] else ''}"


def setting(network: Network) -> str:
    """A candidate in all that distinguishes it but the seed, as readers see it."""
    config = network.config
    return ", ".join(filter(None, (name_of(config), wording.weight(config))))


def candidates(networks: Iterable[Network], kinds: Iterable[str]) -> dict[str, dict[int, Network]]:
    """{setting: {seed: network}} of the candidates of these kinds that finished and have a worst case, by what was written down."""
    found: dict[str, dict[int, Network]] = {}
    whole: dict[str, str] = {}
    for one in networks:
        if kind(one) in tuple(kinds) and judged(one):
            if whole.setdefault(setting(one), one.setting) != one.setting:
                raise ValueError(f"two settings are both called {setting(one)}; one of a kind, λ or target is compared")
            found.setdefault(setting(one), {})[one.seed] = one
    return found


def judged(network: Network) -> bool:
    """Did it finish, and has it been attacked by AutoAttack and the adaptive attacks?"""
    return network.record["status"] == "finished" and quantities.worst_case(network) is not None


def of_defence(networks: Iterable[Network], defence: str) -> dict[int, list[Network]]:
    """{seed: judged networks of a defence}, by clean accuracy."""
    found: dict[int, list[Network]] = {}
    for one in networks:
        if one.defence == defence and judged(one):
            found.setdefault(one.seed, []).append(one)
    return {seed: sorted(some, key=lambda n: n.clean) for seed, some in sorted(found.items())}


def read_at(networks: list[Network], clean: float) -> np.ndarray | None:
    """The worst case of networks of one seed at this clean accuracy, image by image, (N,) in [0, 1]; None outside their range.

    Linear between the two neighbours in clean accuracy: their shares are mixed.
    """
    points = sorted(networks, key=lambda n: n.clean)
    if not points or not points[0].clean <= clean <= points[-1].clean:
        return None
    above = next(i for i, n in enumerate(points) if n.clean >= clean)
    if points[above].clean == clean:
        return quantities.worst_case(points[above]).astype(float)
    low, high = points[above - 1], points[above]
    share = (clean - low.clean) / (high.clean - low.clean)
    worst = [quantities.worst_case(n).astype(float) for n in (low, high)]
    n = min(map(len, worst))
    return (1 - share) * worst[0][:n] + share * worst[1][:n]


def _points(rows: list[tuple[np.ndarray, np.ndarray]], choices: int) -> Estimate | None:
    """The mean gain in points with its interval, from (ours, theirs) of each seed; None with fewer than 30 images."""
    if not rows:
        return None
    n = min(len(values) for row in rows for values in row)
    if n < intervals.FEW:
        return None
    return intervals.of_points(Samples.of([(100 * (ours[:n] - theirs[:n]), np.ones(n, bool)) for ours, theirs in rows]), choices=choices)


def over_gnr(candidate: Mapping[int, Network], gnr: Mapping[int, list[Network]], choices: int) -> Estimate | None:
    """E3: the worst case of a candidate minus GNR's at the same clean accuracy, in points; None where no seed lies within GNR's range.

    Seeds outside the range are left out.
    """
    rows = []
    for seed, one in sorted(candidate.items()):
        theirs = read_at(gnr.get(seed, []), one.clean)
        if theirs is not None:
            rows.append((quantities.worst_case(one).astype(float), theirs))
    return _points(rows, choices)


# Of adversarial training, with the defaults of options that are not given: what a candidate shares with what it is held against.
SHARED_OPTIONS = {"loss": "mse", "eps": 8 / 255, "alpha": 2 / 255, "attack_steps": 7}
SHARED = ("epochs", "width", "train_size", "ema")


def _adversarial(network: Network) -> tuple:
    """All that tells one adversarial training from another, whatever is added to it."""
    config = network.config
    return *(config["options"].get(name, default) for name, default in SHARED_OPTIONS.items()), *(config.get(name) for name in SHARED)


def over_training(candidate: Mapping[int, Network], rival: Mapping[int, list[Network]], choices: int) -> tuple[Estimate, float] | None:
    """E4: the worst case of a candidate minus that of PGD-7 training alone, and what it costs of clean accuracy, both in points.

    Held against the one that is like it in all else, its loss too; None without such a one.
    """
    both = []
    for seed, one in sorted(candidate.items()):
        alike = [n for n in rival.get(seed, []) if _adversarial(n) == _adversarial(one)]
        if len(alike) > 1:
            raise ValueError(f"one PGD-7 training a seed is compared; got {', '.join(n.name for n in alike)}")
        both += [(one, n) for n in alike]
    found = _points([tuple(quantities.worst_case(n).astype(float) for n in pair) for pair in both], choices)
    cost = 100 * float(np.mean([theirs.clean - ours.clean for ours, theirs in both] or [0.0]))
    return found and (found, round(cost, 4))  # accuracies are means in float32, and one point is one point

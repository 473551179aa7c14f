"""The quantities of the claims, one value a seed, from the networks of one pair (see book/plan.md).

`networks` is {defence: Network} of one seed, as `headline.by_seed` gives it. A function gives None where a network or what is
known of it is missing, or where one of those that it compares collapsed or diverged.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from deepdefense.attacks import paper
from deepdefense.evaluation.report import Report

from ..networks import Network
from ..scope import DEFENCES, VARIANTS

Networks = Mapping[str, Network]
DISTANCE_ATTACKS = tuple(f"paper/{name}" for name in paper.MINIMUM_NORM)
STRICT_SUITES = ("standard", "adaptive")


def usable(networks: Networks, *defences: str) -> bool:
    """Are all of `defences` there, with an ordinary end of their training?"""
    return all(name in networks and networks[name].record["status"] == "finished" for name in defences)


def common(networks: Networks) -> np.ndarray | None:
    """Which images of the sweep all five networks classify correctly: (N,) bool."""
    if not usable(networks, *DEFENCES) or any(networks[name].sweep is None for name in DEFENCES):
        return None
    sweeps = [networks[name].sweep for name in DEFENCES]
    return np.all([s["prediction"] == s["label"] for s in sweeps], axis=0)


def survival(networks: Networks, defence: str, attack: str, level: int) -> float | None:
    """Share of the commonly correct images that survive `attack` at eps = level/255, in [0, 1]."""
    mask = common(networks)
    return None if mask is None or not mask.any() else float(networks[defence].sweep[f"{attack}/{level}"][mask].mean())


def paper_gap(networks: Networks, variant: str, attack: str, level: int) -> float | None:
    """GFA minus adversarial training on the commonly correct images, in percentage points."""
    values = [survival(networks, defence, attack, level) for defence in (variant, "pgd-at")]
    return None if None in values else 100 * (values[0] - values[1])


def worst_case(network: Network) -> np.ndarray | None:
    """Right before and after AutoAttack and every adaptive attack: (N,) bool over all first test images."""
    report = network.reports.get("linf")
    if report is None or not set(STRICT_SUITES) <= set(report.suites):
        return None
    return report.robust(*(key for suite in STRICT_SUITES for key in report.in_suite(suite)))


def strict_gap(networks: Networks, variant: str) -> float | None:
    """GFA minus adversarial training, worst case over the strict attacks on all images, in percentage points."""
    if not usable(networks, variant, "pgd-at"):
        return None
    masks = [worst_case(networks[name]) for name in (variant, "pgd-at")]
    return None if any(mask is None for mask in masks) else 100 * float(masks[0].mean() - masks[1].mean())


def _reports(networks: Networks, *defences: str) -> list[Report] | None:
    if not usable(networks, *defences):
        return None
    found = [networks[name].reports.get("l2") for name in defences]
    return None if any(report is None or DISTANCE_ATTACKS[0] not in report.outcomes for report in found) else found


def paper_distances(networks: Networks, attack: str, of: str) -> np.ndarray | None:
    """L2 distances of `attack` on the images that all five networks get right, for the network `of`; failures left out."""
    reports = _reports(networks, *DEFENCES)
    if reports is None:
        return None
    right = np.all([report.clean for report in reports], axis=0)
    distance = networks[of].reports["l2"].outcomes[attack].l2[right]
    return distance[np.isfinite(distance)]


def strict_distances(network: Network) -> np.ndarray:
    """The smallest L2 distance over all minimum-norm attacks of the images that the network gets right; a failure is ∞."""
    report = network.reports["l2"]
    return np.min([report.outcomes[key].l2 for key in DISTANCE_ATTACKS], axis=0)[report.clean]


def paper_ratio(networks: Networks, variant: str, attack: str, against: str = "standard") -> float | None:
    """Mean distance of GFA over that of another network, commonly correct images."""
    values = [paper_distances(networks, attack, name) for name in (variant, against)]
    if any(v is None or len(v) == 0 for v in values):
        return None
    return float(values[0].mean() / values[1].mean())


def strict_ratio(networks: Networks, variant: str, against: str = "standard") -> float | None:
    """Median of the smallest distances of GFA over that of another network, each on the images it gets right."""
    if _reports(networks, variant, against) is None:
        return None
    ours, theirs = (float(np.median(strict_distances(networks[name]))) for name in (variant, against))
    return ours / theirs if np.isfinite(theirs) else None


def _measured(networks: Networks, defence: str) -> list[dict] | None:
    """The measures of `defence` and of plain training."""
    if not usable(networks, defence, "standard"):
        return None
    found = [networks[name].measures for name in (defence, "standard")]
    return None if None in found else found


def rise_ratio(networks: Networks, defence: str, loss: str = "mse", within: str = "tangential") -> float | None:
    """C5: `claims_geometry.rise_ratio` of `defence` over plain training."""
    found = _measured(networks, defence)
    return None if found is None else next(iter(rise_ratios(found, defence, loss=loss, within=within).values()))


ALIGNMENTS = ("signed, at the input", "magnitude, at the input", "signed, mean over layers", "magnitude, mean over layers")


def alignment_gap(networks: Networks, kind: str = ALIGNMENTS[0], defence: str = "pgd-at") -> float | None:
    """C8: `claims_geometry.alignment_change` of `defence` over plain training; kind: one of `claims_geometry.ALIGNMENTS`."""
    found = _measured(networks, defence)
    return None if found is None else next(iter(alignment_change(found, defence, kind=kind).values()))


def per_seed(seeds: Mapping[int, Networks], quantity, *arguments) -> list[float]:
    """The values of `quantity` for the seeds that have one, in order of the seeds."""
    values = [quantity(seeds[seed], *arguments) for seed in sorted(seeds)]
    return [value for value in values if value is not None]


def variants(seeds: Mapping[int, Networks], quantity, *arguments) -> dict[str, Sequence[float]]:
    """{variant: values, one a seed} of a quantity whose second argument is the variant."""
    return {name: per_seed(seeds, quantity, name, *arguments) for name in VARIANTS}


def objective(record: Mapping) -> str:
    """The training objective of the network that `record` measures."""
    return record["training"]["config"]["objective"]


def records_by_seed(records: Iterable[Mapping]) -> dict[int, dict[str, Mapping]]:
    """{seed of training: {objective: record}}; ValueError if a seed has two networks of one objective."""
    found: dict[int, dict[str, Mapping]] = {}
    for record in records:
        networks = found.setdefault(record["training"]["config"]["seed"], {})
        if objective(record) in networks:
            names = f"{networks[objective(record)]['name']} and {record['name']}"
            raise ValueError(f"one network of an objective for each seed is needed to compare them; got {names}")
        networks[objective(record)] = record
    return dict(sorted(found.items()))


def rise_ratios(
    records: Iterable[Mapping], defence: str, *, loss: str = "mse", within: str = "tangential", to: str = "standard"
) -> dict[int, float]:
    """C5: {seed: worst rise of `loss` for the network `defence`, mean over the images, divided by that of `to`}.

    Perturbations have L2 length at most `measures.RADIUS`; within: "tangential", "radial" or "all". NaN where `to` has none.
    """
    found = {}
    for seed, networks in records_by_seed(records).items():
        if defence in networks and to in networks:
            rise, base = (networks[name]["geometry"]["rise"][loss][within]["mean"] for name in (defence, to))
            found[seed] = rise / base if base > 0 else math.nan
    return found


def rise_over_margin(record: Mapping, within: str = "tangential") -> float:
    """Worst rise of the margin loss as a share of the network's own mean margin, right logit minus largest wrong one.

    It is the same for any positive multiple of the logits, so a network cannot lower it by saying everything more softly.
    NaN where the mean margin is not above 0: such a network is wrong about more than it is right about.
    """
    kept = -record["geometry"]["loss"]["margin"]["mean"]
    return record["geometry"]["rise"]["margin"][within]["mean"] / kept if kept > 0 else math.nan


def alignments(record: Mapping) -> dict[str, float]:
    """Mean alignment of one network for the loss it was trained on: signed and in magnitude, at the input and over all layers."""
    layers = list(record["geometry"]["alignment"]["layers"].values())
    values = (
        layers[0]["mean"],
        layers[0]["mean_abs"],
        float(np.mean([layer["mean"] for layer in layers])),
        float(np.mean([layer["mean_abs"] for layer in layers])),
    )
    return dict(zip(ALIGNMENTS, values, strict=True))


def alignment_change(
    records: Iterable[Mapping], defence: str = "pgd-at", *, kind: str = ALIGNMENTS[0], to: str = "standard"
) -> dict[int, float]:
    """C8: {seed: alignment of the network `defence` minus that of `to`}; kind: one of `ALIGNMENTS`."""
    if kind not in ALIGNMENTS:
        raise ValueError(f"kind must be one of {'; '.join(ALIGNMENTS)}; got {kind!r}")
    return {
        seed: alignments(networks[defence])[kind] - alignments(networks[to])[kind]
        for seed, networks in records_by_seed(records).items()
        if defence in networks and to in networks
    }

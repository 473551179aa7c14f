"""The quantities of the claims, one value a seed, from the networks of one pair (see book/plan.md).

`networks` is {defence: Network} of one seed, as `networks.by_seed` gives it. A function gives None where a network or what is
known of it is missing, or where one of those that it compares collapsed or diverged.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from deepdefense.evaluation.report import Report

from .. import intervals
from ..estimates import Estimate, estimate
from ..intervals import Ceiling, Samples
from ..networks import Network
from ..scope import COMPARED, VARIANTS
from . import measured
from .measured import ALIGNMENTS

Networks = Mapping[str, Network]
STRICT_SUITES = ("standard", "adaptive")


def usable(networks: Networks, *defences: str) -> bool:
    """Are all of `defences` there, with an ordinary end of their training?"""
    return all(name in networks and networks[name].record["status"] == "finished" for name in defences)


def common(networks: Networks) -> np.ndarray | None:
    """Which images of the sweep all five networks classify correctly: (N,) bool."""
    if not usable(networks, *COMPARED) or any(networks[name].sweep is None for name in COMPARED):
        return None
    sweeps = [networks[name].sweep for name in COMPARED]
    return np.all([s["prediction"] == s["label"] for s in sweeps], axis=0)


def levels(seeds: Mapping[int, Networks], attack: str) -> list[int]:
    """The eps, in 1/255, at which every swept network of the pair was attacked by `attack`; in rising order."""
    swept = [network.sweep for networks in seeds.values() for network in networks.values() if network.sweep is not None]
    found = [{int(key.rsplit("/", 1)[1]) for key in one if key.rsplit("/", 1)[0] == attack} for one in swept]
    return sorted(set.intersection(*found)) if found else []


def survival(networks: Networks, defence: str, attack: str, level: int) -> float | None:
    """Share of the commonly correct images that survive `attack` at eps = level/255, in [0, 1]."""
    mask = common(networks)
    return None if mask is None or not mask.any() else float(networks[defence].sweep[f"{attack}/{level}"][mask].mean())


def paper_gap(networks: Networks, variant: str, attack: str, level: int) -> float | None:
    """GFA minus adversarial training on the commonly correct images, in percentage points."""
    values = [survival(networks, defence, attack, level) for defence in (variant, "pgd-at")]
    return None if None in values else 100 * (values[0] - values[1])


def _shared(labels: Sequence[np.ndarray]) -> None:
    """A ValueError unless these are labels of the same first test images, some perhaps of fewer."""
    for label in labels:
        if any(not np.array_equal(label[: len(other)], other[: len(label)]) for other in labels):
            raise ValueError("the networks of a pair must have been attacked on the same first test images; their labels differ")


def gap_samples(seeds: Mapping[int, Networks], variant: str, attack: str, level: int) -> Samples | None:
    """`paper_gap` of every image and seed: 100 where GFA alone keeps it, -100 where adversarial training alone does; else 0."""
    rows, labels = [], []
    for seed in sorted(seeds):
        mask = common(seeds[seed])
        if mask is not None and mask.any():
            ours, theirs = (seeds[seed][name].sweep[f"{attack}/{level}"].astype(float) for name in (variant, "pgd-at"))
            rows.append((100 * (ours - theirs), mask))
            labels.append(seeds[seed][variant].sweep["label"])
    _shared(labels)
    return Samples.of(rows) if rows else None


def kept(seeds: Mapping[int, Networks], defence: str, attack: str, level: int) -> Samples | None:
    """Which of the commonly correct images `defence` keeps: 1 or 0, an image and seed."""
    rows = []
    for seed in sorted(seeds):
        mask = common(seeds[seed])
        if mask is not None and mask.any():
            rows.append((seeds[seed][defence].sweep[f"{attack}/{level}"].astype(float), mask))
    return Samples.of(rows) if rows else None


def ceiling(seeds: Mapping[int, Networks], attack: str, level: int) -> Ceiling | None:
    """The largest `paper_gap` that any network could have: what adversarial training loses of the common images, and their number."""
    found = kept(seeds, "pgd-at", attack, level)
    return None if found is None else intervals.ceiling(found)


def at_the_plans(network: Network) -> Report | None:
    """The L∞ report at the eps of the plan, 8/255."""
    return network.reports.get("linf")


def beyond(network: Network) -> Report | None:
    """The L∞ report at the largest eps of the sweep, where the paper's protocol reads its best gap."""
    return network.beyond


Which = Callable[[Network], Report | None]  # of a network's reports under L∞


def strict_samples(seeds: Mapping[int, Networks], variant: str, which: Which = at_the_plans) -> Samples | None:
    """`strict_gap` of every image and seed: 100, 0 or -100."""
    rows, labels = [], []
    for seed in sorted(seeds):
        if strict_gap(seeds[seed], variant, which) is not None:
            masks = [worst_case(seeds[seed][name], which).astype(float) for name in (variant, "pgd-at")]
            rows.append((100 * (masks[0] - masks[1]), np.ones(len(masks[0]), bool)))
            labels.append(which(seeds[seed][variant]).label)
    _shared(labels)
    return Samples.of(rows) if rows else None


def worst_case(network: Network, which: Which = at_the_plans) -> np.ndarray | None:
    """Right before and after AutoAttack and every adaptive attack: (N,) bool over all first test images."""
    report = which(network)
    if report is None or not set(STRICT_SUITES) <= set(report.suites):
        return None
    return report.robust(*(key for suite in STRICT_SUITES for key in report.in_suite(suite)))


def strict_gap(networks: Networks, variant: str, which: Which = at_the_plans) -> float | None:
    """GFA minus adversarial training, worst case over the strict attacks on all images, in percentage points."""
    if not usable(networks, variant, "pgd-at"):
        return None
    masks = [worst_case(networks[name], which) for name in (variant, "pgd-at")]
    return None if any(mask is None for mask in masks) else 100 * float(masks[0].mean() - masks[1].mean())


def distance_attacks(network: Network) -> list[str]:
    """The paper's minimum-norm attacks on `network`, as its L2 report names them; none if it was not given any."""
    report = network.reports.get("l2")
    return report.in_suite("paper", bounded=False) if report is not None and "paper" in report.suites else []


def _reports(networks: Networks, *defences: str) -> list[Report] | None:
    if not usable(networks, *defences):
        return None
    attacks = [distance_attacks(networks[name]) for name in defences]
    if not all(attacks):
        return None
    if any(set(names) != set(attacks[0]) for names in attacks):
        raise ValueError("the networks of a pair must have been given the same minimum-norm attacks; their reports differ")
    return [networks[name].reports["l2"] for name in defences]


def paper_distances(networks: Networks, attack: str, of: str) -> np.ndarray | None:
    """L2 distances of `attack` on the images that all five networks get right, for the network `of`; failures left out."""
    reports = _reports(networks, *COMPARED)
    if reports is None:
        return None
    right = np.all([report.clean for report in reports], axis=0)
    distance = networks[of].reports["l2"].outcomes[attack].l2[right]
    return distance[np.isfinite(distance)]


def strict_distances(network: Network) -> np.ndarray:
    """The smallest L2 distance over all minimum-norm attacks of the images that the network gets right; a failure is ∞."""
    return _least(network)[network.reports["l2"].clean]


def _least(network: Network) -> np.ndarray:
    report = network.reports["l2"]
    attacks = [key for suite in ("paper", "minimum_norm") if suite in report.suites for key in report.in_suite(suite, bounded=False)]
    return np.min([report.outcomes[key].l2 for key in attacks], axis=0)


def paper_ratio_estimate(seeds: Mapping[int, Networks], variant: str, attack: str, against: str = "standard", choices: int = 1):
    """`paper_ratio` with its interval for seeds and images, and how many images each seed has: (Estimate, (n, ...)), or None."""
    rows = [], []
    for seed in sorted(seeds):
        if paper_ratio(seeds[seed], variant, attack, against) is not None:
            right = np.all([seeds[seed][name].reports["l2"].clean for name in COMPARED], axis=0)
            for side, name in zip(rows, (variant, against), strict=True):
                distance = seeds[seed][name].reports["l2"].outcomes[attack].l2
                side.append((distance, right & np.isfinite(distance)))
    return _ratio(rows, "mean", choices)


def strict_ratio_estimate(seeds: Mapping[int, Networks], variant: str, against: str = "standard", choices: int = 1):
    """`strict_ratio` likewise: (Estimate, (n, ...)), or None."""
    rows = [], []
    for seed in sorted(seeds):
        if strict_ratio(seeds[seed], variant, against) is not None:
            for side, name in zip(rows, (variant, against), strict=True):
                side.append((_least(seeds[seed][name]), seeds[seed][name].reports["l2"].clean))
    return _ratio(rows, "median", choices)


def _ratio(rows: tuple[list, list], kind: str, choices: int) -> tuple[Estimate, tuple[int, ...]] | None:
    if not rows[0]:
        return None
    samples = [Samples.of(side) for side in rows]
    ours, others = (getattr(one, kind) for one in samples)
    fewest = tuple(min(both) for both in zip(*(one.images for one in samples), strict=True))
    return intervals.of_lengths(ours, others, samples[0].values.shape[1], choices=choices), fewest


def with_power(found: tuple[Estimate, tuple[int, ...]] | None) -> Estimate | None:
    """The estimate of a ratio if every seed has at least 30 images of it; None where one has fewer, and a rule says *inconclusive*."""
    return found[0] if found and min(found[1]) >= intervals.FEW else None


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
    """C5: `measured.rise_ratio` of `defence` over plain training."""
    found = _measured(networks, defence)
    return None if found is None else measured.rise_ratio(*found, loss=loss, within=within)


def validation_alignment(network: Network) -> float | None:
    """Mean signed alignment at the input over the validation images after the last epoch; None of a network that diverged."""
    return network.record["history"][-1].get("val_alignment") if network.record.get("history") else None


def control_samples(seeds: Mapping[int, Networks], defence: str) -> Samples | None:
    """C5's control: `measured.share_ratio` of `defence` over plain training, an image and seed; None where none is recorded."""
    pairs = [found for seed in sorted(seeds) if (found := _measured(seeds[seed], defence)) is not None]
    rows = [one for ours, theirs in pairs if (one := measured.share_ratio(ours, theirs)) is not None]
    rows = [(values, mask) for values, mask in rows if mask.any()]
    return Samples.of(rows) if rows else None


def control(seeds: Mapping[int, Networks], defence: str, choices: int = 1) -> Estimate | None:
    """The median over the images of C5's control, mean over seeds; choices: `defence` is the best of so many."""
    found = control_samples(seeds, defence)
    if found is None:
        return None
    return intervals.estimate(found.median, found.values.shape[1], choices=choices, favours="low")


def alignment_gap(networks: Networks, kind: str = ALIGNMENTS[0], defence: str = "pgd-at") -> float | None:
    """C8: `measured.alignment_difference` of `defence` over plain training; kind: one of `measured.ALIGNMENTS`."""
    found = _measured(networks, defence)
    return None if found is None else measured.alignment_difference(*found, kind)


def _image_by_image(seeds: Mapping[int, Networks], defence: str, pick: Callable) -> tuple[Samples, Samples] | None:
    """`pick` of what the measures of `defence` and of plain training hold of each image; None where a seed has only means."""
    pairs = [found for seed in sorted(seeds) if (found := _measured(seeds[seed], defence)) is not None]
    images = [[record["geometry"].get("images") for record in pair] for pair in pairs]
    if not images or any(None in pair for pair in images):
        return None
    _shared([np.array(one["label"]) for pair in images for one in pair])
    sides = [[np.array(pick(pair[side]), float) for pair in images] for side in (0, 1)]
    ours, theirs = (Samples.of([(values, np.ones(len(values), bool)) for values in side]) for side in sides)
    return ours, theirs


def rise_estimate(seeds: Mapping[int, Networks], defence: str, loss: str = "mse", choices: int = 1) -> Estimate | None:
    """`rise_ratio` with its interval: for seeds and images where the records hold the images, else for seeds alone."""
    values = per_seed(seeds, rise_ratio, defence, loss)
    found = _image_by_image(seeds, defence, lambda images: images["rise"][loss])
    if found is None:
        return estimate(values, choices=choices, favours="low") if values else None
    quotient = intervals.ratio(found[0].mean, found[1].mean)
    return intervals.estimate(quotient, found[0].values.shape[1], choices=choices, favours="low")


def alignment_estimate(seeds: Mapping[int, Networks], kind: str = ALIGNMENTS[0], defence: str = "pgd-at") -> Estimate | None:
    """`alignment_gap` likewise; the records hold the images for the two kinds at the input."""
    values = per_seed(seeds, alignment_gap, kind, defence)
    magnitude = {ALIGNMENTS[0]: False, ALIGNMENTS[1]: True}.get(kind)
    pick = (lambda images: np.abs(images["alignment"])) if magnitude else (lambda images: images["alignment"])
    found = None if magnitude is None else _image_by_image(seeds, defence, pick)
    if found is None:
        return estimate(values) if values else None
    ours, theirs = found
    return intervals.estimate(lambda weights: ours.mean(weights) - theirs.mean(weights), ours.values.shape[1])


def per_seed(seeds: Mapping[int, Networks], quantity, *arguments) -> list[float]:
    """The values of `quantity` for the seeds that have one, in order of the seeds."""
    values = [quantity(seeds[seed], *arguments) for seed in sorted(seeds)]
    return [value for value in values if value is not None]


def variants(seeds: Mapping[int, Networks], quantity, *arguments) -> dict[str, Sequence[float]]:
    """{variant: values, one a seed} of a quantity whose second argument is the variant."""
    return {name: per_seed(seeds, quantity, name, *arguments) for name in VARIANTS}

"""What the claims C5 and C8 speak of, seed by seed, from the records of `deepdefense.measures`; no verdict is given here.

Every function takes records of one pair of data and architecture. A seed counts where it has both networks that are compared.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

ALIGNMENTS = ("signed, at the input", "magnitude, at the input", "signed, mean over layers", "magnitude, mean over layers")


def objective(record: Mapping) -> str:
    """The training objective of the network that `record` measures."""
    return record["training"]["config"]["objective"]


def by_seed(records: Iterable[Mapping]) -> dict[int, dict[str, Mapping]]:
    """{seed of training: {objective: record}}; ValueError if a seed has two networks of one objective."""
    found: dict[int, dict[str, Mapping]] = {}
    for record in records:
        networks = found.setdefault(record["training"]["config"]["seed"], {})
        if objective(record) in networks:
            names = f"{networks[objective(record)]['name']} and {record['name']}"
            raise ValueError(f"one network of an objective for each seed is needed to compare them; got {names}")
        networks[objective(record)] = record
    return dict(sorted(found.items()))


def rise_ratio(
    records: Iterable[Mapping], defence: str, *, loss: str = "mse", within: str = "tangential", to: str = "standard"
) -> dict[int, float]:
    """C5: {seed: worst rise of `loss` for the network `defence`, mean over the images, divided by that of `to`}.

    Perturbations have L2 length at most `measures.RADIUS`; within: "tangential", "radial" or "all". NaN where `to` has none.
    """
    found = {}
    for seed, networks in by_seed(records).items():
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
        for seed, networks in by_seed(records).items()
        if defence in networks and to in networks
    }


def mean_sd(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation over seeds (n − 1); the latter is NaN for a single one, both are for none."""
    values = np.asarray(list(values), dtype=float)
    mean = float(values.mean()) if len(values) else math.nan
    return mean, float(values.std(ddof=1)) if len(values) > 1 else math.nan

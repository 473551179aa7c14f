"""What the claims C5 and C8 speak of, from the records of `replication.experiments.measure`; no verdict is given here.

A quantity takes the records of two networks; its plural takes all records of one pair of data and architecture and gives it seed by
seed, for the seeds that have both networks.
"""

import math
from collections.abc import Iterable, Mapping

import numpy as np

ALIGNMENTS = ("signed, at the input", "magnitude, at the input", "signed, mean over layers", "magnitude, mean over layers")


def row(record: Mapping) -> str:
    """The row that the network which `record` measures belongs to (see `networks.Page.measured`), else its training objective."""
    return record.get("row") or record["training"]["config"]["objective"]


def training_loss(record: Mapping) -> str:
    """The loss that the network was trained on: squared error, as the paper's, unless its options name another."""
    return record["training"]["config"]["options"].get("loss", "mse")


def comparable(records: Iterable[Mapping], loss: str) -> list[Mapping]:
    """Those records whose `loss` can stand beside that of the others; all, where none was trained on squared error.

    Squared error measures how near the logits are to 0 and 1, where nothing but training on it brings them: the logits of a network
    trained on cross-entropy have a scale of their own, and its squared error, in the hundreds, says nothing of the network.
    """
    records = list(records)
    return [record for record in records if loss != "mse" or training_loss(record) == "mse"] or records


def records_by_seed(records: Iterable[Mapping]) -> dict[int, dict[str, Mapping]]:
    """{seed of training: {row: record}}; ValueError if a seed has two networks of one row."""
    found: dict[int, dict[str, Mapping]] = {}
    for record in records:
        networks = found.setdefault(record["training"]["config"]["seed"], {})
        if row(record) in networks:
            names = f"{networks[row(record)]['name']} and {record['name']}"
            raise ValueError(f"one network of an objective for each seed is needed to compare them; got {names}")
        networks[row(record)] = record
    return dict(sorted(found.items()))


def pairs(records: Iterable[Mapping], defence: str, to: str = "standard") -> dict[int, tuple[Mapping, Mapping]]:
    """{seed: (record of `defence`, record of `to`)} of the seeds that have both."""
    found = records_by_seed(records)
    return {seed: (networks[defence], networks[to]) for seed, networks in found.items() if defence in networks and to in networks}


def rise_ratio(ours: Mapping, theirs: Mapping, *, loss: str = "mse", within: str = "tangential") -> float:
    """C5: worst rise of `loss` for one network, mean over the images, divided by that of another. NaN where the other has none.

    Perturbations have L2 length at most `measure.RADIUS`; within: "tangential", "radial" or "all"
    """
    rise, base = (record["geometry"]["rise"][loss][within]["mean"] for record in (ours, theirs))
    return rise / base if base > 0 else math.nan


def rise_ratios(
    records: Iterable[Mapping], defence: str, *, loss: str = "mse", within: str = "tangential", to: str = "standard"
) -> dict[int, float]:
    """{seed: `rise_ratio` of the network `defence` over that of `to`}."""
    return {seed: rise_ratio(*both, loss=loss, within=within) for seed, both in pairs(records, defence, to).items()}


def rise_over_margin(record: Mapping, within: str = "tangential") -> float:
    """Worst rise of the margin loss as a share of the network's own mean margin, right logit minus largest wrong one.

    It is the same for any positive multiple of the logits, so a network cannot lower it by saying everything more softly.
    NaN where the mean margin is not above 0: such a network is wrong about more than it is right about.
    """
    kept = -record["geometry"]["loss"]["margin"]["mean"]
    return record["geometry"]["rise"]["margin"][within]["mean"] / kept if kept > 0 else math.nan


def margin_shares(record: Mapping) -> np.ndarray | None:
    """The worst tangential rise of the margin loss as a share of the image's own margin: (N,), or None where it was not recorded.

    1 means that a tangential perturbation within `measure.RADIUS` takes the whole margin. The share is the same for any positive
    multiple of the logits. NaN where the network is wrong: there is no margin to lose.
    """
    images = record["geometry"].get("images")
    if images is None:
        return None
    margin, rise = np.array(images["margin"], float), np.array(images["rise"]["margin"], float)
    kept = np.array(images["right"], bool) & (margin > 0)
    return np.where(kept, rise / np.where(kept, margin, 1), np.nan)


def share_ratio(ours: Mapping, theirs: Mapping) -> tuple[np.ndarray, np.ndarray] | None:
    """C5's control, image by image: `margin_shares` of one network over that of another, and which images count, both (N,).

    Those count that both get right and whose margin rises at all for the other network. None where either record has no images.
    A loss that is flatter only because the network says everything more softly gives 1 here; a mean of margins over all images,
    of which most are negative or near 0 for a weak network, could not be divided by.
    """
    shares = [margin_shares(record) for record in (ours, theirs)]
    if any(share is None for share in shares):
        return None
    labels = [record["geometry"]["images"]["label"] for record in (ours, theirs)]
    if labels[0] != labels[1]:
        raise ValueError(f"{ours['name']} and {theirs['name']} were not measured on the same images; their labels differ")
    counted = ~np.isnan(shares[0]) & ~np.isnan(shares[1]) & (shares[1] > 0)
    return np.where(counted, shares[0] / np.where(counted, shares[1], 1), np.nan), counted


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


def alignment_difference(ours: Mapping, theirs: Mapping, kind: str = ALIGNMENTS[0]) -> float:
    """C8: alignment of one network minus that of another; kind: one of `ALIGNMENTS`."""
    if kind not in ALIGNMENTS:
        raise ValueError(f"kind must be one of {'; '.join(ALIGNMENTS)}; got {kind!r}")
    return alignments(ours)[kind] - alignments(theirs)[kind]


def alignment_changes(
    records: Iterable[Mapping], defence: str = "pgd-at", *, kind: str = ALIGNMENTS[0], to: str = "standard"
) -> dict[int, float]:
    """{seed: `alignment_difference` of the network `defence` and that of `to`}."""
    return {seed: alignment_difference(*both, kind) for seed, both in pairs(records, defence, to).items()}

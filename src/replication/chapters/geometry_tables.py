"""Tables of the geometry of the loss and of the sweep over eps, from the records of `replication.experiments.measure`.

One row a defence: mean and standard deviation over its seeds, as `Spread`s that are rounded where they are shown.
"""

from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from ..claims import measured
from ..scope import DEFENCE_NAMES, DIRECTIONS, LOSS_NAMES, LOSSES, WITHIN
from ..tables import Spread
from ..wording import NOTHING, number
from .geometry_figures import groups, look_up


def means(records: Sequence[Mapping], columns: Mapping[str, tuple[str, ...]]) -> pd.DataFrame:
    """One row a defence: {title: path of a summary in the geometry} as spreads, then the numbers of seeds and images."""
    rows = {}
    for name, members in groups(records).items():
        row = {title: Spread.of(look_up(record, *path)["mean"] for record in members) for title, path in columns.items()}
        rows[DEFENCE_NAMES[name]] = row | {"seeds": len(members), "n": look_up(members[0], "n")}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("defence")


def network_table(records: Sequence[Mapping]) -> pd.DataFrame:
    """What the networks say at all: how they ended, accuracy, mean margin, and how much of it a small perturbation takes."""
    rows, squared = {}, groups(measured.comparable(records, "mse"))
    for name, members in groups(records).items():
        shares = {within: [measured.rise_over_margin(record, within) for record in members] for within in WITHIN}
        rows[DEFENCE_NAMES[name]] = {
            "ended": ", ".join(sorted({record["training"]["status"] for record in members})),
            "accuracy (%)": Spread.of(100 * look_up(record, "accuracy") for record in members),
            "mean squared error": Spread.of(look_up(record, "loss", "mse")["mean"] for record in members if name in squared),
            "mean margin": Spread.of(-look_up(record, "loss", "margin")["mean"] for record in members),
            **{f"worst rise / mean margin, {within}": Spread.of(share) for within, share in shares.items()},
            "seeds": len(members),
            "n": look_up(members[0], "n"),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("defence")


def alignment_table(records: Sequence[Mapping]) -> pd.DataFrame:
    """Mean alignment at the input for each loss, and at the other layers for the training loss."""
    layers = list(look_up(records[0], "alignment", "layers"))[1:]
    columns = {f"input, {LOSS_NAMES[loss]}": ("alignment", "input", loss) for loss in LOSSES}
    return means(records, columns | {layer.removeprefix("body."): ("alignment", "layers", layer) for layer in layers})


def rise_table(records: Sequence[Mapping]) -> pd.DataFrame:
    """Worst rise of each loss within the L2 radius, by the directions allowed."""
    return means(records, {f"{LOSS_NAMES[loss]}, {within}": ("rise", loss, within) for loss in LOSSES for within in WITHIN})


def attack_table(records: Sequence[Mapping]) -> pd.DataFrame:
    """Radial share of PGD perturbations and their cosine with the training gradient, by attacked loss."""
    columns = {}
    for loss in LOSSES:
        columns[f"radial share, {LOSS_NAMES[loss]}"] = ("attacks", loss, "radial share")
        columns[f"cosine, {LOSS_NAMES[loss]}"] = ("attacks", loss, "cosine")
    return means(records, columns)


def direction_table(records: Sequence[Mapping], key: str = "alignment") -> pd.DataFrame:
    """One quantity of the pulled-back directions of logits; key: "alignment", "tangential length", "with training gradient"."""
    return means(records, {name: ("directions", name, key) for name in look_up(records[0], "directions")})


def curvature_table(records: Sequence[Mapping]) -> pd.DataFrame:
    """Mean loss, length of the training gradient and of its tangential part, and curvature of the squared error; of networks
    trained on it, if there are any."""
    columns = {"squared error": ("loss", "mse"), "‖g‖": ("gradient", "length"), "‖g_t‖": ("gradient", "tangential")}
    columns |= {f"curvature, {name}": ("profiles", "curvature", name) for name in DIRECTIONS}
    return means(measured.comparable(records, "mse"), columns)


def ratio_table(records: Sequence[Mapping]) -> pd.DataFrame:
    """C5: worst rise relative to plain training of the same seed, one row a defence and loss, by the directions allowed."""
    rows = {}
    shown = {loss: groups(measured.comparable(records, loss)) for loss in LOSSES}
    for name in groups(records):
        if name == "standard":
            continue
        for loss in (one for one in LOSSES if name in shown[one]):
            ratios = {within: measured.rise_ratios(records, name, loss=loss, within=within) for within in WITHIN}
            row = {within: Spread.of(found.values()) for within, found in ratios.items()}
            row |= {"tangential, by seed": ", ".join(number(r, 2) for r in ratios["tangential"].values()) or NOTHING}
            rows[DEFENCE_NAMES[name], LOSS_NAMES[loss]] = row | {"seeds": len(ratios["tangential"])}
    return _two_levels(rows, ["defence", "loss"])


def change_table(records: Sequence[Mapping]) -> pd.DataFrame:
    """C8: alignment of each defence minus that of plain training of the same seed, in the four readings."""
    rows = {}
    for name in groups(records):
        if name == "standard":
            continue
        changes = {kind: measured.alignment_changes(records, name, kind=kind) for kind in measured.ALIGNMENTS}
        for kind, found in changes.items():
            row = {
                "minus plain": Spread.of(found.values()),
                "by seed": ", ".join(number(d, 3, sign=True) for d in found.values()) or NOTHING,
            }
            rows[DEFENCE_NAMES[name], kind] = row | {"seeds": len(found)}
    return _two_levels(rows, ["defence", "alignment"])


def all_pairs_table(records: Mapping[str, Sequence[Mapping]]) -> pd.DataFrame:
    """C5 and C8 of all pairs at a glance, {title: records}: tangential rise over plain's, signed alignment at the input minus plain's."""
    losses = {f"tangential rise over plain's, {LOSS_NAMES[loss]}": loss for loss in ("mse", "margin")}
    rows = {}
    for title, members in records.items():
        defences = [name for name in groups(members) if name != "standard"] if members else []
        for name in defences:
            row = {
                words: Spread.of(measured.rise_ratios(measured.comparable(members, loss), name, loss=loss).values())
                for words, loss in losses.items()
            }
            changes = measured.alignment_changes(members, name)
            rows[title, DEFENCE_NAMES[name]] = row | {"alignment minus plain's": Spread.of(changes.values()), "seeds": len(changes)}
    return _two_levels(rows, ["networks", "defence"])


def stacked(make: Callable[[Sequence[Mapping]], pd.DataFrame], records: Mapping[str, Sequence[Mapping]]) -> pd.DataFrame:
    """The tables that `make` gives of each pair's records below one another, {title: records}; of a single one as it is."""
    made = {title: make(members) for title, members in records.items()}
    if len(made) == 1:
        return next(iter(made.values()))
    return pd.concat(made, names=["networks", *next(iter(made.values())).index.names])


def directions_table(records: Sequence[Mapping]) -> pd.DataFrame:
    """The three quantities of `direction_table` below one another."""
    keys = ("alignment", "tangential length", "with training gradient")
    return pd.concat({key: direction_table(records, key) for key in keys}, names=["quantity", "defence"])


def _two_levels(rows: Mapping[tuple, Mapping], names: list[str]) -> pd.DataFrame:
    index = pd.MultiIndex.from_tuples(list(rows), names=names) if rows else None
    return pd.DataFrame(list(rows.values()), index=index)


def sweep_table(records: Sequence[Mapping]) -> pd.DataFrame:
    """Accuracy in % at each eps (grey levels), one row a defence and attack, mean ± sd over seeds; n: images."""
    rows = {}
    for name, members in groups(records).items():
        for key in members[0]["sweep"]["accuracy"]:
            attack, level = key.rsplit("/", 1)
            row = rows.setdefault((DEFENCE_NAMES[name], attack), {})
            row[f"{level}/255"] = Spread.of(100 * record["sweep"]["accuracy"][key] for record in members)
        for row in (row for (defence, _), row in rows.items() if defence == DEFENCE_NAMES[name]):
            row |= {"seeds": len(members), "n": members[0]["n"]}
    return _two_levels(rows, ["defence", "attack"])

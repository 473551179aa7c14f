"""Pictures of the geometry of the loss, from the records of `replication.experiments.measure`; nothing here runs a model.

Records of one pair of data and architecture, one or several seeds a defence. Several seeds: mean over seeds, whiskers of one
standard deviation over them. One seed: mean over images, and `whiskers` says what is drawn around it.
"""

from collections.abc import Callable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from .. import estimates
from ..claims import measured
from ..maps import PANEL, Maps
from ..scope import DEFENCE_NAMES, DIRECTIONS, LOSS_NAMES, LOSSES, WITHIN
from .style import HATCHES, MARKERS, PALETTE

PARTS = ("whole", "radial", "tangential")
LINES = dict(zip(DIRECTIONS, [("-", "o"), ("--", "s"), (":", "^")], strict=True))
WIDE = 10  # ranges that differ by this factor are drawn on a logarithmic scale


def groups(records: Sequence[Mapping]) -> dict[str, list[Mapping]]:
    """{row: its records}, in the order of `scope.DEFENCE_NAMES`; ValueError if there are none."""
    if not records:
        raise ValueError("there are no measures to draw")
    found = {name: [r for r in records if measured.row(r) == name] for name in DEFENCE_NAMES}
    return {name: members for name, members in found.items() if members}


def seeds(records: Sequence[Mapping]) -> int:
    """How many seeds the defence with the most of them has."""
    return max(len(members) for members in groups(records).values())


def whiskers(records: Sequence[Mapping], *, dispersion: bool = False) -> str:
    """What the whiskers around a mean are, in words; dispersion: for figures that show how images scatter."""
    n = records[0]["geometry"]["n"]
    if seeds(records) > 1:
        return f"whiskers: ± 1 sd over {seeds(records)} seeds; n = {n} images"
    return f"whiskers: ± 1 sd over n = {n} images" if dispersion else f"whiskers: 95 % for the mean over n = {n} images"


def look_up(record: Mapping, *path: str):
    """The entry of a record's geometry at `path`."""
    value = record["geometry"]
    for key in path:
        value = value[key]
    return value


def centre(records: Sequence[Mapping], *path: str, dispersion: bool = False) -> tuple[float, float]:
    """(mean, half a whisker) of a summary of one defence, see `whiskers`."""
    found = [look_up(record, *path) for record in records]
    if len(found) > 1:
        return estimates.mean_sd([summary["mean"] for summary in found])
    n = records[0]["geometry"]["n"]
    return found[0]["mean"], found[0]["sd"] if dispersion else 1.96 * found[0]["sd"] / n**0.5


def _far_apart(values) -> bool:
    """Do the magnitudes of these numbers, but for zeros, differ by `WIDE` or more?"""
    sizes = np.abs(np.asarray(list(values), dtype=float))
    sizes = sizes[np.isfinite(sizes) & (sizes > 0)]
    return len(sizes) > 1 and sizes.max() >= WIDE * sizes.min()


def _scale_axis(axis: Axis, values) -> None:
    """A logarithmic scale where `values` need one, with a linear piece around 0 if some are not above it."""
    values = np.asarray([v for v in values if np.isfinite(v)], dtype=float)
    if not _far_apart(values):
        return
    set_scale = axis.axes.set_yscale if axis.axis_name == "y" else axis.axes.set_xscale
    if (values > 0).all():
        set_scale("log")
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
    else:
        sizes = np.abs(values[values != 0])
        set_scale("symlog", linthresh=10 ** np.floor(np.log10(max(sizes.max() / 1000, np.quantile(sizes, 0.1)))))


Entry = tuple[float, float]


def _bars(ax: Axes, table: Mapping[str, Sequence[Entry]], names: Sequence[str], *, linear: bool = False) -> None:
    """One group of bars a name, one bar a defence; `table` maps objective -> (mean, whisker) for each name.

    linear: keep a linear scale, whatever the numbers
    """
    width = 0.84 / len(table)
    for index, (name, entries) in enumerate(table.items()):
        mean, error = np.array(entries, dtype=float).T
        position = np.arange(len(names)) + (index - (len(table) - 1) / 2) * width
        ax.bar(
            position, mean, width, yerr=np.nan_to_num(error), color=PALETTE[name], label=DEFENCE_NAMES[name], hatch=HATCHES[name],
            edgecolor="white", lw=0.3, error_kw={"lw": 1},
        )  # fmt: skip
    ax.set_xticks(range(len(names)), names)
    ax.grid(axis="x", visible=False)
    if not linear:
        _scale_axis(ax.yaxis, [mean for entries in table.values() for mean, _ in entries])
    if ax.get_yscale() != "log":
        ax.axhline(0, color="black", lw=0.8)
    ax.tick_params(which="both", labelsize=8)


def _legend(fig: Figure, ax: Axes, title: str) -> None:
    handles, names = ax.get_legend_handles_labels()
    fig.legend(handles, names, title=title, fontsize=8, title_fontsize=8, loc="outside upper center", ncols=min(len(names), 6))


def alignment_by_layer(records: Sequence[Mapping]) -> Figure:
    """Alignment at the input of each layer for the training loss: signed at left, in magnitude at right."""
    found = groups(records)
    layers = list(look_up(records[0], "alignment", "layers"))
    fig, (left, right) = plt.subplots(1, 2, figsize=(7.2, 3.2), width_ratios=[1.25, 1])
    for index, (name, members) in enumerate(found.items()):
        position = np.arange(len(layers)) + 0.1 * (index - (len(found) - 1) / 2)
        entries = [centre(members, "alignment", "layers", layer, dispersion=True) for layer in layers]
        mean, error = np.array(entries).T
        look = dict(marker=MARKERS[name], ms=5, color=PALETTE[name], label=DEFENCE_NAMES[name], lw=1)
        left.errorbar(position, mean, np.nan_to_num(error), capsize=2, **look)
        magnitude = [np.mean([look_up(r, "alignment", "layers", layer, "mean_abs") for r in members]) for layer in layers]
        right.plot(range(len(layers)), magnitude, **look)
    for ax, title in ((left, "signed: mean of a"), (right, "magnitude: mean of |a|")):
        short = [layer.removeprefix("body.") for layer in layers]
        ax.set_xticks(range(len(layers)), short, rotation=90 if len(layers) > 8 else 0, fontsize=8)
        ax.set(title=title, xlabel="input of layer", ylabel="alignment")
    left.axhline(0, color="black", lw=0.8)
    right.set_ylim(bottom=0)
    _legend(fig, left, whiskers(records, dispersion=True))
    return fig


def rise_bars(records: Sequence[Mapping]) -> Figure:
    """Worst rise of each loss within the L2 radius, along all, tangential and radial directions; below, relative to plain."""
    relative = "standard" in groups(records) and len(groups(records)) > 1
    fig, axes = plt.subplots(1 + relative, len(LOSSES), figsize=(7.2, 2.3 * (1 + relative) + 0.6), squeeze=False)
    radius = look_up(records[0], "rise", "radius")
    for column, loss in enumerate(LOSSES):
        found = groups(measured.comparable(records, loss))
        table = {name: [centre(members, "rise", loss, within) for within in WITHIN] for name, members in found.items()}
        _bars(axes[0, column], table, WITHIN)
        axes[0, column].set(title=LOSS_NAMES[loss], ylabel="worst rise of the loss" if column == 0 else "")
        if relative:
            ratios = {
                name: [estimates.mean_sd(measured.rise_ratios(records, name, loss=loss, within=within).values()) for within in WITHIN]
                for name in found
            }
            _bars(axes[1, column], ratios, WITHIN)
            axes[1, column].axhline(1, color="black", lw=0.8, ls="--")
            axes[1, column].set(ylabel="relative to plain" if column == 0 else "")
    for ax in axes[-1]:
        ax.set_xlabel(f"directions (L2 ≤ {radius:g})")
    _legend(fig, axes[0, -1], whiskers(records))
    return fig


def _panels(count: int, height: float, **options) -> tuple[Figure, list[Axes]]:
    """`count` panels, three a row at most; the places that are left over are empty."""
    columns = min(count, 3)
    rows = -(-count // columns)
    fig, axes = plt.subplots(rows, columns, figsize=(max(2.4 * columns, 3.6), height * rows + 0.5), squeeze=False, **options)
    for ax in axes.flat[count:]:
        ax.axis("off")
    return fig, list(axes.flat[:count])


def loss_profiles(records: Sequence[Mapping], loss: str = "mse") -> Figure:
    """Change of the loss along three directions: mean, middle half of the images shaded, one scale for all networks."""
    found = groups(measured.comparable(records, loss))
    fig, axes = _panels(len(found), 2.2, sharex=True, sharey=True)
    reach = []
    for ax, (name, members) in zip(axes, found.items(), strict=True):
        distances = look_up(members[0], "profiles", "distances")
        for shade, (direction, (line, marker)) in enumerate(LINES.items()):
            curves = [look_up(record, "profiles", "along", direction, loss) for record in members]
            low, mean, high = (np.mean([curve[key] for curve in curves], 0) for key in ("q25", "mean", "q75"))
            ax.plot(distances, mean, ls=line, marker=marker, ms=4, markevery=4, color=f"C{shade}", label=direction)
            ax.fill_between(distances, low, high, color=f"C{shade}", alpha=0.18, lw=0)
            reach.append(np.abs(mean).max())
        ax.axhline(0, color="black", lw=0.8)
        ax.set_title(DEFENCE_NAMES[name], fontsize=8.5)
        ax.tick_params(labelsize=8, labelbottom=True)
    if _far_apart(reach):
        axes[0].set_yscale("symlog", linthresh=10 ** np.floor(np.log10(max(min(reach), max(reach) / 1000))))
    for ax in axes:
        ax.set_xlabel("L2 distance, image units", fontsize=8.5)
    fig.supylabel(f"change of the {LOSS_NAMES[loss]}", fontsize=8.5)
    n = look_up(records[0], "n")
    _legend(fig, axes[0], f"mean and middle half of n = {n} images" + (f", mean of {seeds(records)} seeds" if seeds(records) > 1 else ""))
    return fig


def _mean_grid(members: Sequence[Mapping], key: str) -> np.ndarray:
    return np.mean([look_up(record, "landscape", key) for record in members], 0)


def landscapes(records: Sequence[Mapping], loss: str = "mse") -> Figure:
    """Mean loss (top) and accuracy (below) on the plane of radius and tangential gradient; one colour scale a row.

    The contour is where accuracy falls to chance level.
    """
    found = groups(measured.comparable(records, loss))
    width = min(7.2, 1.3 * len(found) + 1.2)
    height = 2 * (width - 1.4) / len(found) + 1.2
    fig, axes = plt.subplots(2, len(found), figsize=(width, height), sharex=True, sharey=True, squeeze=False)
    axis = look_up(records[0], "landscape", "axis")
    chance = 1 / len(records[0]["training"]["data"]["classes"])
    grids = {name: _mean_grid(members, loss) for name, members in found.items()}
    low, high = min(grid.min() for grid in grids.values()), max(grid.max() for grid in grids.values())
    norm = LogNorm(low, high) if low > 0 and high >= WIDE * low else Normalize(low, high)
    for column, (name, members) in enumerate(found.items()):
        accuracy = _mean_grid(members, "accuracy")
        for ax, grid, scale in ((axes[0, column], grids[name], norm), (axes[1, column], accuracy, Normalize(0, 1))):
            image = ax.pcolormesh(axis, axis, grid, norm=scale, cmap="cividis", shading="nearest", rasterized=True)
            if accuracy.min() < chance < accuracy.max():
                line = ax.contour(axis, axis, accuracy, levels=[chance], colors="white", linewidths=1.4)
                line.set_path_effects([withStroke(linewidth=3, foreground="black")])
            ax.plot(0, 0, "+", color="white", ms=8, path_effects=[withStroke(linewidth=3, foreground="black")])
            ax.patch.set_gid(PANEL)
            ax.grid(False)
            ax.set_aspect("equal")
            ax.tick_params(labelsize=8)
            if column == len(found) - 1:
                bar = fig.colorbar(image, ax=axes[0 if ax is axes[0, column] else 1], pad=0.01, aspect=12)
                bar.set_label(LOSS_NAMES[loss] if ax is axes[0, column] else "accuracy", fontsize=8.5)
                bar.ax.tick_params(labelsize=8)
        axes[0, column].set_title(DEFENCE_NAMES[name].replace(" ", "\n"), fontsize=8.5)
    for ax in axes[:, 0]:
        ax.set_ylabel("radial", fontsize=8.5)
    count = f", {seeds(records)} seeds" if seeds(records) > 1 else ""
    fig.supxlabel(
        f"along the tangential gradient (L2, image units), n = {look_up(records[0], 'landscape', 'n')} images{count}", fontsize=8.5
    )
    return fig


def landscape_maps(records: Sequence[Mapping], loss: str = "mse") -> Maps:
    """What `landscapes` draws, as numbers to walk over."""
    found = groups(measured.comparable(records, loss))
    rows = {
        title: {DEFENCE_NAMES[name]: _mean_grid(members, key) for name, members in found.items()}
        for title, key in ((LOSS_NAMES[loss], loss), ("accuracy", "accuracy"))
    }
    return Maps("along the image", "along the tangential gradient", look_up(records[0], "landscape", "axis"), rows)


def attack_parts(records: Sequence[Mapping]) -> Figure:
    """PGD perturbations taken apart, by attacked loss: radial share, cosine with g, and what each part does to that loss."""
    found = groups(records)
    fig, axes = plt.subplot_mosaic([["share"] * 3 + ["cosine"] * 3, [c for loss in LOSSES for c in [loss] * 2]], figsize=(7.2, 5.4))
    names = [LOSS_NAMES[loss] for loss in LOSSES]

    def read(key: Callable[[str], str], over: Sequence[str] = LOSSES) -> dict[str, list[Entry]]:
        return {name: [centre(members, "attacks", loss, key(loss)) for loss in over] for name, members in found.items()}

    _bars(axes["share"], read(lambda loss: "radial share"), names)
    random = 1 / look_up(records[0], "coordinates", "dimension")
    axes["share"].axhline(random, color="black", lw=1, ls="--")
    axes["share"].set(title="radial share of ‖δ‖² (dashed: random direction)", xlabel="attacked loss")
    _bars(axes["cosine"], read(lambda loss: "cosine"), names, linear=True)
    axes["cosine"].set(title="cosine of δ and training gradient", xlabel="attacked loss")
    for loss in LOSSES:
        there = groups(measured.comparable(records, loss))
        table = {name: [centre(members, "attacks", loss, f"{loss} {part}") for part in PARTS] for name, members in there.items()}
        _bars(axes[loss], table, PARTS)
        axes[loss].set(title=f"attack on the {LOSS_NAMES[loss]}", xlabel="part of δ applied")
    axes[LOSSES[0]].set_ylabel("change of the attacked loss")
    _legend(fig, axes["share"], f"PGD-20, L∞ eps = {look_up(records[0], 'attacks', 'eps'):.3g}; {whiskers(records)}")
    return fig


def jacobian_directions(records: Sequence[Mapping]) -> Figure:
    """Pulled-back directions of logits: their alignment with the image, tangential length, cosine with the training gradient."""
    panels = {
        "alignment": "alignment with the image",
        "tangential length": "tangential length",
        "with training gradient": "cosine with the training gradient",
    }
    found = groups(records)
    names = list(look_up(records[0], "directions"))
    fig, axes = plt.subplots(1, len(panels), figsize=(7.2, 0.35 * len(found) + 1.8), sharey=True)
    for ax, (key, title) in zip(axes, panels.items(), strict=True):
        means = []
        for index, (name, members) in enumerate(found.items()):
            mean, error = np.array([centre(members, "directions", u, key, dispersion=True) for u in names]).T
            position = np.arange(len(names)) + 0.8 / len(found) * (index - (len(found) - 1) / 2)
            ax.errorbar(
                mean, position, xerr=np.nan_to_num(error), ls="", marker=MARKERS[name], ms=5, color=PALETTE[name],
                label=DEFENCE_NAMES[name], capsize=2, lw=1,
            )  # fmt: skip
            means += list(mean)
        if key == "tangential length":
            _scale_axis(ax.xaxis, means)
        else:
            ax.axvline(0, color="black", lw=0.8)
        ax.set_title(title, fontsize=8.5)
        ax.tick_params(which="both", labelsize=8)
    axes[0].set_yticks(range(len(names)), names, fontsize=8.5)
    axes[0].invert_yaxis()
    _legend(fig, axes[0], whiskers(records, dispersion=True))
    return fig

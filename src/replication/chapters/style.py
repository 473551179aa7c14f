"""The look that all figures share: style, colours, labels, and the line that says what a record is."""

from collections.abc import Iterable, Mapping

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from .. import wording
from ..scope import ALIGNED, DEFENCE_NAMES


def _looks(of_defences: Iterable, of_aligned: Iterable) -> dict:
    """{name: look} in the order of `scope.DEFENCE_NAMES`, from those of the defences and those of the aligned settings of GFA."""
    defences = [name for name in DEFENCE_NAMES if name not in ALIGNED.values()]
    looks = dict(zip(defences, of_defences, strict=True)) | dict(zip(ALIGNED.values(), of_aligned, strict=True))
    return {name: looks[name] for name in DEFENCE_NAMES}


COLOURS = [*sns.color_palette("colorblind"), *sns.color_palette("dark")]
MARKERS = _looks("osD^vPX<>*hpdH8", [(8, 1, 0), (5, 0, 180)])
HATCHES = _looks(  # colour is not all there is; lines first, since dots and rings are forty times as many bytes in a picture
    ["", "//", "\\\\", "||", "xx", "--", "++", "oo", "..", "**", "OO", "//..", "\\\\..", "xx..", "--.."], ["////", "\\\\\\\\"]
)
PALETTE = _looks(COLOURS[:15], [tuple(0.6 * part for part in colour) for colour in COLOURS[1:3]])  # the aligned: their variant, darker


def style(dpi: int | None = None) -> None:
    """Set the look of all figures of a page: text of 8 points in a figure that is as wide as the column, lines that read on both themes.

    dpi: of a page whose pictures are not shown by `figures.show`; they stand on white
    """
    sns.set_theme(context="paper", style="whitegrid", palette="colorblind")
    pd.set_option("display.max_colwidth", None)
    parts = ("font.size", "axes.labelsize", "xtick.labelsize", "ytick.labelsize", "legend.fontsize", "legend.title_fontsize")
    sizes = dict.fromkeys(parts, 8)
    ink = dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), "black")
    plt.rcParams.update(sizes | ink | {
        "axes.titlesize": 9, "figure.titlesize": 9.5, "figure.dpi": 72, "savefig.dpi": 144, "figure.constrained_layout.use": True,
        "axes.edgecolor": "grey", "grid.color": "grey", "grid.alpha": 0.3, "legend.framealpha": 0, "font.family": "DejaVu Sans",
        "axes.facecolor": "none", "figure.facecolor": "none",
    })  # fmt: skip
    if dpi is not None:
        plt.rcParams.update({"figure.dpi": dpi, "axes.facecolor": "white", "figure.facecolor": "white"})


def legend_below(figure: Figure, ncols: int) -> None:
    """One legend below all panels, with each name that any of them has, in `ncols` columns or in as many as there is room for."""
    named = {name: handle for ax in figure.axes for handle, name in zip(*ax.get_legend_handles_labels(), strict=True)}
    for columns in range(min(ncols, len(named)), 0, -1):
        legend = figure.legend(named.values(), named, loc="outside lower center", ncols=columns, frameon=False)
        if columns == 1 or legend.get_window_extent().width <= figure.bbox.width:
            return
        legend.remove()


def label(record: Mapping) -> str:
    """Name of a run's defence with its λ, as readers see it."""
    config = record["config"]
    lam = f", λ = {config['lam']:g}" if config["lam"] or config["objective"].startswith("gfa") else ""
    if config["options"].get("target") is not None:
        lam = f", {wording.weight(config)}"
    return DEFENCE_NAMES.get(config["objective"], config["objective"]) + lam


def colour(record: Mapping):
    """The colour of a run's defence, the same on every page."""
    return PALETTE.get(record["config"]["objective"], "black")


def hatch(record: Mapping) -> str:
    """The hatching of a run's defence, since colour is not all there is."""
    return HATCHES.get(record["config"]["objective"], "")


def scale(record: Mapping) -> str:
    """One line on how large a training run was and what it ran on, from its record."""
    config, environment = record["config"], record["environment"]
    return (
        f"{config['data']}, {config['model']}, {record['data']['train']:,} training images, {config['epochs']} epochs, "
        f"seed {config['seed']}, {environment['device']}, commit {environment['commit']}"
    )

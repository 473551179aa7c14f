"""The look that all figures share: style, colours, labels, and the line that says what a record is."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns

from ..scope import DEFENCE_NAMES

COLOURS = [*sns.color_palette("colorblind"), *sns.color_palette("dark")]
PALETTE = dict(zip(DEFENCE_NAMES, COLOURS[: len(DEFENCE_NAMES)], strict=True))


def style(dpi: int = 110) -> None:
    """Set the look of all figures of a page; dpi: pixels an inch, fewer on a page of many figures."""
    sns.set_theme(context="notebook", style="whitegrid", palette="colorblind")
    pd.set_option("display.max_colwidth", None)
    plt.rcParams.update({"figure.dpi": dpi, "savefig.dpi": dpi, "axes.titlesize": "medium", "figure.constrained_layout.use": True})


def label(record: Mapping) -> str:
    """Name of a run's defence with its λ, as readers see it."""
    config = record["config"]
    lam = f", λ = {config['lam']:g}" if config["lam"] or config["objective"].startswith("gfa") else ""
    if config["options"].get("target") is not None:
        lam = f", target {config['options']['target']:g}"
    return DEFENCE_NAMES.get(config["objective"], config["objective"]) + lam


def colour(record: Mapping):
    """The colour of a run's defence, the same on every page."""
    return PALETTE.get(record["config"]["objective"], "black")


def scale(record: Mapping) -> str:
    """One line on how large a training run was and what it ran on, from its record."""
    config, environment = record["config"], record["environment"]
    return (
        f"{config['data']}, {config['model']}, {record['data']['train']} training images, {config['epochs']} epochs, "
        f"seed {config['seed']}, {environment['device']}, commit {environment['commit']}"
    )

"""Figures and tables of chapter 4: networks under attack."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..tables import without
from .style import colour, hatch, label


def attack_table(records: Sequence[Mapping]) -> pd.DataFrame:
    """One row a run: accuracy in % with the 95 % Wilson half-width, clean, under each attack, in the worst case; status if not finished."""

    def cell(entry: Mapping) -> str:
        return f"{100 * entry['accuracy']:.1f} ± {50 * (entry['high'] - entry['low']):.1f}"

    rows = []
    for record in records:
        row = {"defence": label(record["training"]), "status": record["training"]["status"], "clean": cell(record["clean"])}
        row |= {name.split("/")[-1]: cell(entry) for name, entry in record["attacks"].items()}
        rows.append(row | {"worst case": cell(record["worst_case"])})
    return without(pd.DataFrame(rows).set_index("defence"), status="finished")


def attack_words(records: Sequence[Mapping]) -> list[str]:
    """What is left in the worst case, a sentence a run."""
    said = []
    for one in records:
        clean, worst = one["clean"], one["worst_case"]
        left = f"{100 * worst['accuracy']:.1f} % in the worst case [{100 * worst['low']:.1f}, {100 * worst['high']:.1f}]"
        said.append(f"{label(one['training'])}: {100 * clean['accuracy']:.1f} % clean, {left}, n = {one['n']}.")
    return said


def attack_bars(records: Sequence[Mapping]) -> Figure:
    """Accuracy clean and under each attack, one group an attack, one bar a run, 95 % Wilson intervals over images."""
    fig, _ = _bars(records, "attacks", (7.2, 3.2))
    fig.legend(loc="outside upper center", ncols=len(records))
    return fig


def runs_bars(summaries: Sequence[Mapping]) -> Figure:
    """Accuracy of several runs, clean, in the worst case of each suite and over all, with 95 % intervals over images."""
    fig, ax = _bars(summaries, "suites", (7.2, 3.2))
    ax.legend(fontsize=8)
    return fig


def _bars(records: Sequence[Mapping], between: str, size: tuple[float, float]) -> tuple[Figure, Axes]:
    """Groups of bars: clean, each entry of `between` ("attacks", "suites") and the worst case, one bar a run."""
    names = ["clean", *(name.split("/")[-1] for name in records[0][between]), "worst case"]
    fig, ax = plt.subplots(figsize=size)
    width = 0.8 / len(records)
    for index, record in enumerate(records):
        entries = [record["clean"], *record[between].values(), record["worst_case"]]
        value = np.array([100 * entry["accuracy"] for entry in entries])
        error = np.array([[v - 100 * e["low"], 100 * e["high"] - v] for v, e in zip(value, entries, strict=True)]).T
        position = np.arange(len(names)) + (index - (len(records) - 1) / 2) * width
        training = record["training"]
        ax.bar(
            position,
            value,
            width,
            yerr=error.clip(0),
            color=colour(training),
            label=label(training),
            hatch=hatch(training),
            ec="white",
            lw=0.3,
            error_kw={"lw": 1},
        )
    ax.set_xticks(range(len(names)), names)
    ax.set(ylabel=f"accuracy (%), n = {records[0]['n']}", ylim=(0, 100))
    return fig, ax


def accuracy_curves(radii: Sequence[float], by_run: Sequence[tuple[Mapping, Sequence[float]]], n: int) -> Figure:
    """Accuracy against eps, one line a run given as (record, accuracies in [0, 1])."""
    fig, ax = plt.subplots(figsize=(5.6, 3.4))
    for (record, values), marker in zip(by_run, "os^Dv", strict=False):
        ax.plot(radii, [100 * v for v in values], marker=marker, ms=4, color=colour(record), label=label(record))
    ax.set(xlabel="eps (L∞, image units)", ylabel=f"accuracy (%), n = {n}", ylim=(0, 100))
    ax.legend(fontsize=8)
    return fig

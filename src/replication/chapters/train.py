"""Figures and tables of chapter 3: how trainings went."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .style import colour, label


def show_status(record: Mapping) -> None:
    """Say in a sentence if the run `record` collapsed, diverged, or was at chance after warm-up; its numbers mean little then."""
    fallen = ", ".join(map(str, record["collapse_epochs"]))
    if record["status"] == "diverged":
        print("This run DIVERGED: its loss became infinite or NaN, and training stopped there.")
    elif record["status"] == "collapsed":
        print("This run COLLAPSED: at the end its validation accuracy is no better than always naming one class.")
    elif fallen:
        print(f"This run was at chance level after epoch(s) {fallen}, and recovered.")
    else:
        print("This run ended normally: finite loss, accuracy above chance.")


def training_curves(records: Sequence[Mapping]) -> Figure:
    """Validation accuracy, accuracy under PGD and alignment at the input per epoch, one line a run; × marks chance level."""
    panels = {
        "val_accuracy": "clean accuracy",
        "val_robust_accuracy": "accuracy under PGD (margin)",
        "val_alignment": "alignment at the input",
    }
    fig, axes = plt.subplots(1, 3, figsize=(11, 3.2))
    for ax, (key, title) in zip(axes, panels.items(), strict=True):
        for record in records:
            rows = [row for row in record["history"] if row["finite"]]
            ax.plot([r["epoch"] for r in rows], [r[key] for r in rows], color=colour(record), label=label(record))
            fallen = [r for r in rows if r["at_chance"]]
            ax.plot([r["epoch"] for r in fallen], [r[key] for r in fallen], "x", color="black")
        ax.set(title=title, xlabel="epoch")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        if key != "val_alignment":
            ax.set_ylim(0, 1)
    axes[-1].legend(fontsize=8)
    return fig


def alignment_bars(records: Sequence[Mapping], which: str = "last") -> Figure:
    """Mean test alignment at every tap, one group a layer, one bar a run."""
    taps = list(records[0]["metrics"][which]["test_alignment"])
    fig, ax = plt.subplots(figsize=(7, 3.2))
    width = 0.8 / len(records)
    for index, record in enumerate(records):
        values = [record["metrics"][which]["test_alignment"][tap] for tap in taps]
        position = np.arange(len(taps)) + (index - (len(records) - 1) / 2) * width
        ax.bar(position, values, width, color=colour(record), label=label(record))
    ax.axhline(0, color="black", lw=0.8)
    n = records[0]["metrics"][which]["test_alignment_n"]
    ax.set_xticks(range(len(taps)), [tap.removeprefix("body.") for tap in taps])
    ax.set(xlabel="input of layer", ylabel=f"mean alignment, n = {n}")
    ax.legend(fontsize=8)
    return fig


def training_table(records: Sequence[Mapping]) -> pd.DataFrame:
    """One row a run: how it ended, test accuracy and alignment of the last and of the selected epoch, cost of a step."""

    def figures_of(metrics: Mapping | None) -> tuple:
        if metrics is None:
            return None, None
        aligned = next(iter(metrics["test_alignment"].values()))
        return round(100 * metrics["test_accuracy"], 1), None if aligned is None else round(aligned, 2)

    rows = []
    for record in records:
        accuracy, aligned = figures_of(record["metrics"]["last"])
        best_accuracy, best_aligned = figures_of(record["metrics"]["best"])
        rows.append(
            {
                "defence": label(record),
                "seed": record["config"]["seed"],
                "status": record["status"],
                "test accuracy (%)": accuracy,
                "alignment at the input": aligned,
                "epoch selected": record["best_epoch"],
                "its test accuracy (%)": best_accuracy,
                "its alignment": best_aligned,
                "step cost (forward passes)": round(record["cost"]["forward_passes"], 1),
            }
        )
    return pd.DataFrame(rows).set_index("defence") if rows else pd.DataFrame()

"""Figures and tables of chapter 3: how trainings went."""

from collections.abc import Mapping, Sequence
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..exhibits import note
from ..tables import without
from .style import colour, label

PARTS = {"train_subset": ("training", "-"), "val": ("validation", "--")}  # how a history calls images, readers do, and a line
KINDS = {"": "alignment at the input", "_weighted": "alignment, weighted by length"}


def ended_words(records: Sequence[Mapping]) -> list[str]:
    """What became of each run, a sentence each."""
    said = []
    for record in records:
        last = record["metrics"]["last"]
        if last is None:
            said.append(f"{label(record)}: {record['status']}, no accuracy to report.")
            continue
        aligned = next(iter(last["test_alignment"].values()))
        shown = "not defined" if aligned is None else f"{aligned:+.2f}"
        accuracy = f"{100 * last['test_accuracy']:.1f} % test accuracy"
        said.append(f"{label(record)}: {record['status']}, {accuracy}, alignment at the input {shown} (seed {record['config']['seed']}).")
    return said


def show_status(record: Mapping) -> None:
    """Say in a sentence if the run `record` collapsed, diverged, was stopped, or was at chance after warm-up."""
    fallen = ", ".join(map(str, record["collapse_epochs"]))
    if record["status"] == "diverged":
        note(f"This run DIVERGED: its loss became infinite or NaN, and training {_stopped(record) or 'stopped there'}.")
    elif record["status"] == "collapsed":
        if stopped := _stopped(record):
            note(f"This run COLLAPSED: it {stopped}.")
        else:
            note("This run COLLAPSED: at the end its validation accuracy is no better than always naming one class.")
    elif fallen:
        note(f"This run was at chance level after epoch(s) {fallen}, and recovered.")
    else:
        note("This run ended normally: finite loss, accuracy above chance.")


def _stopped(record: Mapping) -> str:
    """Where a run was stopped, and after how many epochs at chance; empty if it was not, or its record does not say."""
    epoch = record.get("stopped_epoch")
    if epoch is None:
        return ""
    rows = record["history"]
    last = next((n for n, row in enumerate(reversed(rows)) if not row.get("at_chance")), len(rows))  # at chance, at the end
    why = f": at chance for {last} epoch{'s' if last > 1 else ''}" if record["status"] == "collapsed" else ""
    return f"stopped at epoch {epoch} of {record['config']['epochs']}{why}"


def _finite(record: Mapping) -> list[Mapping]:
    return [row for row in record["history"] if row["finite"]]


def _draw(ax: Axes, rows: Sequence[Mapping], key: str, **look) -> None:
    """`key` per epoch where the history has it: one from before it was recorded, or of a run without it, draws nothing."""
    found = [(row["epoch"], row[key]) for row in rows if row.get(key) is not None]
    if found:
        ax.plot(*zip(*found, strict=True), **look)


def _per_epoch(axes: Sequence[Axes]) -> None:
    for ax in axes:
        ax.set_xlabel("epoch")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def training_curves(records: Sequence[Mapping]) -> Figure:
    """Validation accuracy, accuracy under PGD and λ per epoch, one line a run (dash-dotted: in a closed loop); × marks chance level."""
    panels = {"val_accuracy": "clean accuracy", "val_robust_accuracy": "accuracy under PGD (margin)"}
    fig, axes = plt.subplots(1, 3, figsize=(7.2, 2.6))
    for record in records:
        rows = _finite(record)
        look = {"color": colour(record), "ls": "-." if _target(record) else "-", "label": label(record)}
        for ax, key in zip(axes, panels, strict=False):
            _draw(ax, rows, key, **look)
            _draw(ax, [row for row in rows if row["at_chance"]], key, marker="x", ls="", color="black")
        if record["config"]["lam"] or _target(record):
            _draw(axes[-1], rows, "lam", **look)
    for ax, title in zip(axes, [*panels.values(), "λ, after the epoch"], strict=True):
        ax.set_title(title)
    for ax in axes[:2]:
        ax.set_ylim(0, 1)
    axes[-1].set_ylim(bottom=0)
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    _per_epoch(axes)
    return fig


def alignment_curves(records: Sequence[Mapping]) -> Figure:
    """Alignment at the input per epoch, mean and weighted by length, on training and on validation images, one colour a run.

    In a closed loop also what is asked for ("goal"), and what the batches reached ("train_reached"): the mean over the aligned layers.
    """
    fig, axes = plt.subplots(1, 2, figsize=(7.2, 3), sharey=True)
    for record in records:
        rows = _finite(record)
        for ax, kind in zip(axes, KINDS, strict=True):
            for part, (name, line) in PARTS.items():
                _draw(ax, rows, f"{part}_alignment{kind}", color=colour(record), ls=line, label=f"{label(record)}: {name}")
        _draw(axes[0], rows, "train_reached", color=colour(record), ls=":", marker=".", label=f"{label(record)}: the batches")
        _draw(axes[0], rows, "goal", color="black", ls="-.", lw=1, label=f"{label(record)}: goal")
    for ax, title in zip(axes, KINDS.values(), strict=True):
        ax.set_title(title if ax.lines else f"{title}: not recorded")
        ax.axhline(0, color="black", lw=0.8)
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    _per_epoch(axes)
    return fig


def tap_curves(record: Mapping) -> Figure | None:
    """Alignment at every layer of one run per epoch, on training and on validation images; None if its history does not hold it."""
    rows = [row for row in _finite(record) if all(f"{part}_alignment_taps" in row for part in PARTS)]
    if not rows:
        return None
    fig, axes = plt.subplots(len(KINDS), len(PARTS), figsize=(7.2, 4.4), sharex=True, sharey=True)
    for line, (kind, title) in zip(axes, {"mean": "mean alignment", "weighted": "weighted by length"}.items(), strict=True):
        for ax, (part, (name, _)) in zip(line, PARTS.items(), strict=True):
            for tap, marker in zip(rows[0][f"{part}_alignment_taps"], cycle("osD^vPX"), strict=False):
                values = [{"epoch": row["epoch"], tap: row[f"{part}_alignment_taps"][tap][kind]} for row in rows]
                _draw(ax, values, tap, label=tap.removeprefix("body."), marker=marker, ms=3)
            ax.set_title(f"{name} images, {title}")
            ax.axhline(0, color="black", lw=0.8)
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=6)
    _per_epoch(axes[-1])
    return fig


def _target(record: Mapping) -> float | None:
    """The alignment that λ was steered to, or None without a closed loop."""
    return record["config"]["options"].get("target")


def alignment_bars(records: Sequence[Mapping], which: str = "last") -> Figure:
    """Mean test alignment at every tap, one group a layer, one bar a run."""
    taps = list(records[0]["metrics"][which]["test_alignment"])
    fig, ax = plt.subplots(figsize=(7, 2.9))
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
    """One row a run: test accuracy and alignment of the last epoch, cost of a step, the selected epoch; how it ended, if not as meant."""

    def figures_of(metrics: Mapping | None) -> tuple:
        if metrics is None:
            return None, None
        aligned = next(iter(metrics["test_alignment"].values()))
        return round(100 * metrics["test_accuracy"], 1), None if aligned is None else round(aligned, 3)

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
                "step cost (passes)": round(record["cost"]["forward_passes"], 1),
                "epoch selected": record["best_epoch"],
                "its accuracy (%)": best_accuracy,
                "its alignment": best_aligned,
            }
        )
    if not rows:
        return pd.DataFrame()
    one_seed = str(rows[0]["seed"])  # which captions say
    return without(pd.DataFrame(rows).set_index("defence"), seed=one_seed, status="finished")

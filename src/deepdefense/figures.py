"""Pictures and tables from records and tensors. Nothing here runs a model; colours are safe for colour-blind readers."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

DEFENCE_NAMES = {
    "standard": "plain", "gfa-first": "GFA-FIRST", "gfa-deep": "GFA-DEEP", "pgd-at": "PGD-7 training",
    "gnr": "GNR", "trades": "TRADES",
}  # fmt: skip
PALETTE = dict(zip(DEFENCE_NAMES, sns.color_palette("colorblind", len(DEFENCE_NAMES)), strict=True))


def style(dpi: int = 110) -> None:
    """Set the look of all figures of a page; dpi: pixels an inch, fewer on a page of many figures."""
    sns.set_theme(context="notebook", style="whitegrid", palette="colorblind")
    pd.set_option("display.max_colwidth", None)
    plt.rcParams.update({"figure.dpi": dpi, "savefig.dpi": dpi, "axes.titlesize": "medium", "figure.constrained_layout.use": True})


def label(record: Mapping) -> str:
    """Name of a run's defence with its λ, as readers see it."""
    config = record["config"]
    lam = f", λ = {config['lam']:g}" if config["lam"] or config["objective"].startswith("gfa") else ""
    return DEFENCE_NAMES.get(config["objective"], config["objective"]) + lam


def colour(record: Mapping):
    """The colour of a run's defence, the same on every page."""
    return PALETTE.get(record["config"]["objective"], "black")


def right_angle() -> Figure:
    """The decomposition in the plane of x and v: a drawing, no data."""
    x, v = np.array([2.0, 1.0]), np.array([1.1, 2.0])
    radial = (v @ x) / (x @ x) * x
    fig, ax = plt.subplots(figsize=(4.6, 3.4))
    colours = sns.color_palette("colorblind")
    arrows = [(x * 1.25, "black", "$x$", (6, 2)), (v, colours[0], "$v$", (6, 2)), (radial, colours[1], "$v_r$", (-40, -38))]
    for tip, shade, name, offset in arrows:
        ax.annotate("", tip, (0, 0), arrowprops=dict(arrowstyle="-|>", color=shade, lw=2))
        ax.annotate(name, tip, xytext=offset, textcoords="offset points", color=shade, fontsize=13)
    ax.annotate("", v, radial, arrowprops=dict(arrowstyle="-|>", color=colours[2], lw=2))
    ax.annotate("$v_t$", (v + radial) / 2, xytext=(6, 4), textcoords="offset points", color=colours[2], fontsize=13)
    circle = plt.Circle((0, 0), np.linalg.norm(radial), fill=False, ls=":", color="grey")
    ax.add_patch(circle)
    ax.set(xlim=(-0.3, 3), ylim=(-0.3, 2.3), aspect="equal")
    ax.axis("off")
    return fig


def image_row(images: Sequence[np.ndarray], titles: Sequence[str], signed: Sequence[bool]) -> Figure:
    """Images (C, H, W) side by side; signed ones on one common diverging scale, zero white."""
    limit = max(np.abs(image).max() for image, has_sign in zip(images, signed, strict=True) if has_sign)
    fig, axes = plt.subplots(1, len(images), figsize=(2.1 * len(images), 2.6))
    for ax, image, title, has_sign in zip(axes, images, titles, signed, strict=True):
        plane = image.mean(0) if has_sign or len(image) == 1 else image.transpose(1, 2, 0)
        kind = dict(cmap="PuOr", vmin=-limit, vmax=limit) if has_sign else dict(cmap="gray", vmin=0, vmax=1)
        ax.imshow(plane, **kind)
        ax.set_title(title)
        ax.axis("off")
    return fig


def image_grid(images: np.ndarray, names: Sequence[str], columns: int = 10) -> Figure:
    """Images (N, C, H, W) in [0, 1] in rows of `columns`, each under its class name."""
    rows = -(-len(images) // columns)
    fig, axes = plt.subplots(rows, columns, figsize=(columns * 0.95, rows * 1.15), squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for ax, image, name in zip(axes.flat, images, names, strict=False):
        ax.imshow(image.transpose(1, 2, 0) if len(image) == 3 else image[0], cmap="gray", vmin=0, vmax=1)
        ax.set_title(name, fontsize=7, pad=2)
    return fig


def loss_profiles(distances: np.ndarray, changes: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """changes[model][direction] (N, T): mean loss change against distance, with the middle half of the images shaded."""
    fig, axes = plt.subplots(1, len(changes), figsize=(4.2 * len(changes), 3.4), sharey=True, squeeze=False)
    for ax, (model, by_direction) in zip(axes.flat, changes.items(), strict=True):
        for (direction, change), marker in zip(by_direction.items(), "os^", strict=False):
            low, high = np.quantile(change, [0.25, 0.75], axis=0)
            (line,) = ax.plot(distances, change.mean(0), marker=marker, ms=4, label=direction)
            ax.fill_between(distances, low, high, color=line.get_color(), alpha=0.15, lw=0)
        ax.set(title=model, xlabel="L2 distance, scaled image units", ylabel="change of the loss")
    axes.flat[0].legend(fontsize=9)
    return fig


def bound_against_gain(bound: Mapping[str, np.ndarray], gain: Mapping[str, np.ndarray], eps: float) -> Figure:
    """Per image: first-order tangential bound against the tangential loss change that was really reached."""
    fig, ax = plt.subplots(figsize=(4.6, 3.8))
    top = max(max(b.max(), gain[name].max()) for name, b in bound.items())
    for (name, b), marker in zip(bound.items(), "o^", strict=False):
        ax.scatter(b, gain[name], s=14, marker=marker, alpha=0.6, label=f"{name} (n = {len(b)})")
    ax.plot([0, top], [0, top], color="black", lw=1, ls="--", label="equal")
    ax.set(xlabel=f"first-order bound at eps = {eps:g}", ylabel="loss change reached")
    ax.legend(fontsize=9)
    return fig


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


def attack_table(records: Sequence[Mapping]) -> pd.DataFrame:
    """One row a run: accuracy in % with the 95 % Wilson half-width, clean, under each attack, and in the worst case."""

    def cell(entry: Mapping) -> str:
        return f"{100 * entry['accuracy']:.1f} ± {50 * (entry['high'] - entry['low']):.1f}"

    rows = []
    for record in records:
        row = {"defence": label(record["training"]), "status": record["training"]["status"], "clean": cell(record["clean"])}
        row |= {name.split("/")[-1]: cell(entry) for name, entry in record["attacks"].items()}
        rows.append(row | {"worst case": cell(record["worst_case"])})
    return pd.DataFrame(rows).set_index("defence")


def attack_bars(records: Sequence[Mapping]) -> Figure:
    """Accuracy clean and under each attack, one group an attack, one bar a run, 95 % Wilson intervals over images."""
    names = ["clean", *(name.split("/")[-1] for name in records[0]["attacks"]), "worst case"]
    fig, ax = plt.subplots(figsize=(9, 3.6))
    width = 0.8 / len(records)
    for index, record in enumerate(records):
        entries = [record["clean"], *record["attacks"].values(), record["worst_case"]]
        value = np.array([100 * entry["accuracy"] for entry in entries])
        error = np.array([[v - 100 * e["low"], 100 * e["high"] - v] for v, e in zip(value, entries, strict=True)]).T
        position = np.arange(len(names)) + (index - (len(records) - 1) / 2) * width
        training = record["training"]
        ax.bar(position, value, width, yerr=error.clip(0), color=colour(training), label=label(training), error_kw={"lw": 1})
    ax.set_xticks(range(len(names)), names)
    ax.set(ylabel=f"accuracy (%), n = {records[0]['n']}", ylim=(0, 100))
    fig.legend(fontsize=9, loc="outside upper center", ncols=len(records))
    return fig


def accuracy_curves(radii: Sequence[float], by_run: Sequence[tuple[Mapping, Sequence[float]]], n: int) -> Figure:
    """Accuracy against eps, one line a run given as (record, accuracies in [0, 1])."""
    fig, ax = plt.subplots(figsize=(5.6, 3.4))
    for (record, values), marker in zip(by_run, "os^Dv", strict=False):
        ax.plot(radii, [100 * v for v in values], marker=marker, ms=4, color=colour(record), label=label(record))
    ax.set(xlabel="eps (L∞, image units)", ylabel=f"accuracy (%), n = {n}", ylim=(0, 100))
    ax.legend(fontsize=8)
    return fig


def scale(record: Mapping) -> str:
    """One line on how large a training run was and what it ran on, from its record."""
    config, environment = record["config"], record["environment"]
    return (
        f"{config['data']}, {config['model']}, {record['data']['train']} training images, {config['epochs']} epochs, "
        f"seed {config['seed']}, {environment['device']}, commit {environment['commit']}"
    )

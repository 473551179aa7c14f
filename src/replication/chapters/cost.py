"""Pictures and tables of what training costs, from benchmark records. Nothing here runs a model or takes a time."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from .style import legend_below

COLOURS = dict(zip(("FIRST", "DEEP", "taps"), sns.color_palette("colorblind"), strict=False))
MARKERS = {"FIRST": "o", "DEEP": "s", "taps": "^"}
TITLES = {
    "batch": "batch size",
    "width": "width factor of the CNN",
    "depth": "hidden layers of an MLP",
    "taps": "aligned layers of the deepest MLP",
}


def machine_table(records: Sequence[Mapping]) -> pd.DataFrame:
    """What each benchmark ran on, and how busy that was, a row a record."""
    rows = []
    for record in records:
        there = record["environment"]
        row = {"benchmark": record["name"], "on": there["cpu"] if there["device"].startswith("cpu") else there["device"]}
        row |= {"cores": there["cores"], "threads": there["threads"], "torch": there["packages"]["torch"]}
        row |= {
            "load, start": there["load"],
            "load, end": there["load_at_end"],
            "freed memory": "kept" if there["memory_kept"] else "given back",
        }
        rows.append(row | {"commit": there["commit"], "date": there["date"][:10]})
    return pd.DataFrame(rows).set_index("benchmark")


def cost_words(training: Mapping) -> list[str]:
    """What an epoch of GFA and of adversarial training takes, in a sentence; median over turns."""
    ratios = {row["contestant"]: row["ratio"] for row in training["rows"]}
    shown = [f"{name} {ratios[name]['median']:.2f}×" for name in ("GFA-FIRST", "GFA-DEEP", "GNR", "PGD-7", "TRADES") if name in ratios]
    device = training["environment"]["device"]
    return [f"Training part of an epoch over plain training's, median of {ratios['plain']['n']} turns on {device}: {', '.join(shown)}."]


def _cell(values: Mapping, digits: int = 2) -> str:
    return f"{values['median']:.{digits}f} [{values['q25']:.{digits}f}, {values['q75']:.{digits}f}]"


def _pick(rows: Sequence[Mapping], **wanted) -> Mapping | None:
    return next((row for row in rows if all(row.get(key) == value for key, value in wanted.items())), None)


def step_table(records: Sequence[Mapping]) -> pd.DataFrame:
    """One row a model and contestant of each record: operations counted and time measured, relative to plain."""
    table = []
    for record in records:
        for row in record["rows"]:
            if row["what"] != "gradients" or row["contestant"] == "plain" or not row["contestant"].endswith(("ours", "naive")):
                continue
            step = _pick(record["rows"], model=row["model"], what="step", contestant=row["contestant"])
            table.append(
                {
                    "model": row["model"],
                    "step": row["contestant"],
                    "threads": record["environment"]["threads"],
                    "freed memory": "kept" if record["environment"]["memory_kept"] else "given back",
                    "batch": row["batch"],
                    "operations": round(row["operations"], 2),
                    "time of the gradients": _cell(row["ratio"]),
                    "with the update": _cell(step["ratio"]) if step else "",
                    "n": row["ratio"]["n"],
                }
            )
    return pd.DataFrame(table).sort_values(["model", "freed memory"], ascending=[True, False], kind="stable").set_index("model")


def step_ratios(records: Sequence[Mapping], floors: Mapping[str, float]) -> Figure:
    """Gradients of a GFA step over those of a plain one: naive and ours, a panel a model, the model's own floor as a line."""
    rows = [row for record in records for row in record["rows"] if row["what"] == "gradients"]
    names = sorted({row["model"] for row in rows})
    ways = {"naive": "naive", "torch's layers": "our\nalignment", "plain alignment": "our\nlayers", "ours": "both"}
    fig, axes = plt.subplots(1, len(names), figsize=(min(7.2, 2.4 * len(names)), 3), sharey=True, squeeze=False)
    for ax, name in zip(axes.flat, names, strict=True):
        for layers, shift in (("FIRST", -0.12), ("DEEP", 0.12)):
            found = [_pick(rows, model=name, contestant=f"{layers}, {way}")["ratio"] for way in ways]
            middle = np.array([one["median"] for one in found])
            error = np.array([[one["median"] - one["q25"], one["q75"] - one["median"]] for one in found]).T
            ax.errorbar(
                np.arange(len(ways)) + shift, middle, error, fmt=MARKERS[layers], ms=6, capsize=3, color=COLOURS[layers], label=layers
            )
        ax.axhline(floors[name], color="black", ls="--", lw=1, label="floor (operations)")
        ax.set_xticks(range(len(ways)), ways.values(), fontsize=8)
        n = _pick(rows, model=name, contestant="FIRST, ours")["ratio"]["n"]
        ax.set_title(f"{name}, n = {n} turns")
    axes.flat[0].set(ylabel="time relative to a plain step", ylim=(1, None))
    legend_below(fig, 3)
    return fig


def growth_curves(record: Mapping) -> Figure:
    """Cost relative to a plain step of the same network against batch size, width, depth and number of taps, with quartiles."""
    axes_there = list(dict.fromkeys(row["axis"] for row in record["rows"]))
    fig, panels = plt.subplots(-(-len(axes_there) // 2), 2, figsize=(7.2, 5.4), sharey=True, squeeze=False)
    for ax in panels.flat[len(axes_there) :]:
        ax.axis("off")
    for ax, axis in zip(panels.flat, axes_there, strict=False):
        rows = [row for row in record["rows"] if row["axis"] == axis and row["contestant"] != "plain"]
        for who in dict.fromkeys(row["contestant"] for row in rows):
            mine = [row for row in rows if row["contestant"] == who]
            at, ratio = [row["value"] for row in mine], [row["ratio"] for row in mine]
            error = [[r["median"] - r["q25"] for r in ratio], [r["q75"] - r["median"] for r in ratio]]
            name = "first layers alone, as many as named" if who == "taps" else who
            ax.errorbar(at, [r["median"] for r in ratio], error, marker=MARKERS[who], ms=5, capsize=3, color=COLOURS[who], label=name)
        values = sorted({row["value"] for row in rows})
        ax.set_xscale("log", base=2)
        ax.set_xticks(values, [f"{value:g}" for value in values])
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_xlabel(TITLES[axis])
    for ax in panels[:, 0]:
        ax.set(ylabel=f"relative to plain, n = {rows[0]['ratio']['n']} turns", ylim=(1, None))
    legend_below(fig, 3)
    return fig


def defences(record: Mapping, floors: Mapping[str, float]) -> Figure:
    """Training time of an epoch relative to plain for each defence, quartiles over turns, beside the floor of its arithmetic."""
    rows = [row for row in record["rows"] if row["contestant"] in floors]
    fig, ax = plt.subplots(figsize=(7, 3))
    middle = np.array([row["ratio"]["median"] for row in rows])
    error = np.array([[row["ratio"]["median"] - row["ratio"]["q25"], row["ratio"]["q75"] - row["ratio"]["median"]] for row in rows]).T
    at, least = np.arange(len(rows)), [floors[row["contestant"]] / floors["plain"] for row in rows]
    ax.bar(at, middle, 0.6, yerr=error, capsize=3, color=sns.color_palette("colorblind")[0], label="measured")
    ax.plot(at, least, "_", ms=34, mew=2, color="black")
    ax.plot([], [], color="black", lw=2, label="floor (operations)")
    ax.set_xticks(at, [row["contestant"] for row in rows])
    ax.set(ylabel=f"relative to plain, n = {rows[0]['ratio']['n']} turns")
    legend_below(fig, 2)
    return fig


def training_table(record: Mapping, floors: Mapping[str, float]) -> pd.DataFrame:
    """One row a defence, and one for the data path: time relative to plain, epochs an hour of the whole set, memory of a step."""
    rows = []
    for row in record["rows"]:
        name, per_hour = row["contestant"], {key: 3600 * value for key, value in row["epochs_per_second"].items() if key != "n"}
        least = f"{floors[name] / floors['plain']:.2f}" if name in floors else ""
        peak = f"{row['peak_mib']['min']:.0f}–{row['peak_mib']['max']:.0f}" if "peak_mib" in row else ""
        cells = {"floor": least, "epoch relative to plain": _cell(row["ratio"]), "epochs an hour": _cell(per_hour, 0)}
        rows.append({"contestant": name, **cells, "memory of a step (MiB)": peak, "n": row["ratio"]["n"]})
    return pd.DataFrame(rows).set_index("contestant")


def tried_table(record: Mapping) -> pd.DataFrame:
    """One row a question: time of the way tried over that of its rival; below 1 it helps."""
    rows = [
        {
            "question": row["question"],
            "way": row["way"],
            "against": row["rival"],
            "time, way / rival": _cell(row["ratio"]),
            "n": row["ratio"]["n"],
            "verdict": "helps" if row["ratio"]["q75"] < 1 else "does not help" if row["ratio"]["q25"] > 1 else "no clear difference",
        }
        for row in record["rows"]
    ]
    return pd.DataFrame(rows).set_index("question")


def precision_table(record: Mapping) -> pd.DataFrame:
    """One row a net and tap: mean alignment in float32, its shift and the change per image in the coarser arithmetic."""
    rows = [row for row in record["rows"] if "change" in row]
    table = [
        {
            "net": row["net"],
            "arithmetic": row["arithmetic"],
            "input of": row["tap"].removeprefix("body."),
            "alignment (float32)": f"{row['alignment']:.3f}",
            "shift of the mean": f"{row['shift']:+.4f}",
            "median change of an image": f"{row['change']['median']:.4f}",
            "largest": f"{row['change']['max']:.4f}",
            "n": row["change"]["n"],
        }
        for row in rows
    ]
    return pd.DataFrame(table).set_index("net")


def precision_gradients(record: Mapping) -> pd.DataFrame:
    """What the coarser arithmetic does to the gradient of all weights."""
    rows = [row for row in record["rows"] if "relative_error" in row]
    table = [
        {
            "net": row["net"],
            "arithmetic": row["arithmetic"],
            "relative error": f"{row['relative_error']:.4f}",
            "cosine with float32": f"{row['cosine']:.4f}",
        }
        for row in rows
    ]
    return pd.DataFrame(table).set_index("net")

"""Figures and tables of the chapter on what alignment is, from what `replication.experiments.scale` measures."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from deepdefense.storage import files, paths

from ..figures import COLUMN
from ..records import reduced
from ..scope import DEFENCE_NAMES, PAIRS
from ..wording import number
from .style import COLOURS, PALETTE, label, legend_below

READS = ("scale",)  # folders of data/results/, for the workflow
ROUNDING = 1e-9  # what float64 leaves of an identity, relative to the lengths in it
MARKERS = "osD^vPX*"


def layer(tap: str) -> str:
    return tap.removeprefix("body.")


def scale_records() -> list[dict]:
    """The committed records of `replication.experiments.scale`, by pair and defence; none if there are none yet."""
    found = [files.read_json(path) for path in sorted((paths.results_root() / "scale").glob("*.json"))]
    order = list(DEFENCE_NAMES)
    return sorted(found, key=lambda r: (r["config"]["data"], r["config"]["model"], order.index(r["config"]["objective"]), r["name"]))


def network_name(record: Mapping) -> str:
    """Pair, size and defence of a network, in words."""
    config = record["config"]
    pair = PAIRS.get((config["data"], config["model"]), f"{config['model']}, {config['data']}")
    return f"{pair}{' at reduced scale' if reduced(record) else ''}: {label(record)}, seed {config['seed']}"


def by_pair(scales: Sequence[Mapping]) -> dict[str, list[Mapping]]:
    """{pair in words: its records of `scale_records`, of networks that finished}; no pair without any."""
    found: dict[str, list[Mapping]] = {}
    for pair, title in PAIRS.items():
        mine = [r for r in scales if (r["config"]["data"], r["config"]["model"]) == pair and r["status"] == "finished"]
        if mine:
            found[title] = mine
    return found


def identity_table(networks: Mapping[str, Mapping[str, Mapping[str, float]]]) -> pd.DataFrame:
    """{network: `scale.identity`} as one row a network: at how many layers both sides agree, and what the weighted alignments are."""
    rows = {}
    for name, taps in networks.items():
        weighted = [row["weighted"] for row in taps.values() if row["length"]]
        rows[name] = {
            "layers": len(taps),
            "equal to rounding": f"{sum(row['error'] < ROUNDING for row in taps.values())} of {len(taps)}",
            "weighted alignment, least": number(min(weighted), 3, sign=True),
            "weighted alignment, most": number(max(weighted), 3, sign=True),
            "mean alignment at the input": number(next(iter(taps.values()))["mean"], 3, sign=True),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("network")


def sides_table(taps: Mapping[str, Mapping[str, float]], names: Sequence[str]) -> pd.DataFrame:
    """The two sides at the layers `names`, where they must be read with care."""
    words = {"aligned": "Σ⟨h, g⟩ / n, the whole gradient", "through": "its part through the layer", "growth": "⟨W, ∂L/∂W⟩ / n"}
    rows = {layer(name): {title: number(taps[name][key], 5, sign=True) for key, title in words.items()} for name in names}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("layer")


def _axes(count: int, height: float = 2.6, **options):
    columns = 2 if count == 4 else min(count, 3)
    rows = -(-count // columns)
    fig, axes = plt.subplots(rows, columns, figsize=(COLUMN, height * rows + 0.3), squeeze=False, **options)
    for ax in axes.flat[count:]:
        ax.axis("off")
    return fig, axes.flat


def balance_bars(balances: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Figure:
    """{network: `scale.balance`}: the two pulls on each layer's scale as shares of the length, a panel a network, and their sum."""
    fig, axes = _axes(len(balances), sharey=True)
    for ax, (name, rows) in zip(axes, balances.items(), strict=False):
        place = np.arange(len(rows))
        for shift, key, words, colour in ((-0.2, "task", "task loss", COLOURS[0]), (0.2, "rest", "the rest", COLOURS[1])):
            ax.bar(place + shift, [row[key] / row["length"] for row in rows.values()], 0.38, color=colour, label=words)
        ax.plot(place, [row["objective"] / row["length"] for row in rows.values()], "kD", ms=4, label="sum")
        ax.axhline(0, color="grey", lw=1)
        ax.set_xticks(place, [layer(name) for name in rows], rotation=40, ha="right")
        ax.set_title(name)
    axes[0].set_ylabel("pull on the scale, share of length")
    legend_below(fig, ncols=3)
    return fig


def balance_words(balances: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """The task loss's pull at the first layer of each network, which is its weighted alignment there, and what is left of both pulls."""
    said = []
    for name, taps in balances.items():
        first = next(iter(taps.values()))
        task, left = (number(first[key] / first["length"], 3, sign=True) for key in ("task", "objective"))
        said.append(f"{name} {task} (sum {left})")
    return f"Task loss's pull at the first layer: {', '.join(said)}."


def balance_table(balances: Mapping[str, Mapping[str, Mapping[str, float]]]) -> pd.DataFrame:
    """The same at the input layer and summed over the layers, in words of signs and shares."""
    rows = {}
    for name, taps in balances.items():
        first = next(iter(taps.values()))
        rows[name] = {key: number(first[key] / first["length"], 3, sign=True) for key in ("task", "rest", "objective")}
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("network, first layer")
    return table.rename(columns={"task": "task: the weighted alignment", "rest": "penalty, attack or decay", "objective": "sum"})


def louder_figure(networks: Mapping[str, Sequence[Mapping]], defences: Mapping[str, str]) -> Figure:
    """{network: `scale.louder`}: alignment against the factor on the logits, at the input and at the last tap; c = 1 is marked.

    defences: {network: its objective}. The robust accuracy, which no factor changes, stands in the legend.
    """
    fig, axes = plt.subplots(1, 2, figsize=(COLUMN, 4.0), sharex=True)
    top = max(row["input"] for name, rows in networks.items() for row in rows if row["c"] == 1 and defences[name].startswith("gfa"))
    for ax, key, words in ((axes[0], "input", "at the input"), (axes[1], "last", "at the last layer")):
        for (name, rows), marker in zip(networks.items(), MARKERS, strict=False):
            one = next(row for row in rows if row["c"] == 1)
            colour = PALETTE[defences[name]]
            ax.plot([row["c"] for row in rows], [row[key] for row in rows], marker=marker, ms=4, color=colour,
                    label=f"{name}: {100 * one['robust']:.0f} % robust at every c")  # fmt: skip
            ax.plot([1], [one[key]], marker=marker, ms=10, mfc="none", mew=1.6, color=colour)
        ax.axhline(0, color="grey", lw=1)
        ax.axvline(1, color="grey", lw=1, ls=":")
        ax.set(xscale="log", xlabel="logits times c", title=words)
    axes[0].axhline(top, color="black", lw=1, ls="--")
    axes[0].annotate("GFA, at most", (0.1, top), xytext=(0, 3), textcoords="offset points")
    axes[0].set_ylabel("mean alignment")
    legend_below(fig, ncols=2)
    return fig


def louder_table(networks: Mapping[str, Sequence[Mapping]]) -> pd.DataFrame:
    """One row a network: what c changes and what it leaves."""
    rows = {}
    for name, found in networks.items():
        ends = sorted(found, key=lambda row: row["c"])
        rows[name] = {
            "clean (%)": _same([100 * row["clean"] for row in ends]),
            "robust (%)": _same([100 * row["robust"] for row in ends]),
            "answers that change (%)": f"{100 * (1 - min(row['answers'] for row in ends)):.1f}",
            **{f"alignment, c = {row['c']:g}": number(row["input"], 2, sign=True) for row in ends if row["c"] in (0.1, 1, 20)},
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("network")


def _same(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:.1f}" if high - low < 0.05 else f"{low:.1f} to {high:.1f}"


def louder_words(networks: Mapping[str, Sequence[Mapping]], defences: Mapping[str, str]) -> str:
    """The sentence of the figure, made from its numbers."""
    gfa = {name: next(r["input"] for r in rows if r["c"] == 1) for name, rows in networks.items() if defences[name].startswith("gfa")}
    said = []
    for name, rows in networks.items():
        if name not in gfa:
            low, high = (pick(rows, key=lambda r: r["c"]) for pick in (min, max))
            more = sum(high["input"] > value for value in gfa.values())
            said.append(
                f"{name}: {number(low['input'], 2, sign=True)} at c = {low['c']:g}, {number(high['input'], 2, sign=True)} at "
                f"c = {high['c']:g}, more than {more} of {len(gfa)} GFA networks as trained"
            )
    return "\n".join(said)


def edges_table(records: Sequence[Mapping]) -> pd.DataFrame:
    """{network: mean alignment at the input, by how its training images, and unseen ones, are shown}."""
    rows = {}
    for record in records:
        for part, found in record["edges"].items():
            rows[network_name(record), part] = {name: number(value["mean"], 3, sign=True) for name, value in found.items()}
    index = pd.MultiIndex.from_tuples(list(rows), names=["network", "images"]) if rows else None
    return pd.DataFrame(list(rows.values()), index=index)


def inherited_table(networks: Mapping[str, Mapping[str, Mapping]]) -> pd.DataFrame:
    """{network: `bias_free.layer_by_layer`}: one inner product, and how much of a deep alignment the input must share."""
    rows = {}
    for name, taps in networks.items():
        inner = [np.asarray(row["inner"]) for row in taps.values()]
        spread = max(float(np.abs(one - inner[0]).max()) for one in inner) / float(np.abs(inner[0]).max())
        for tap, row in taps.items():
            rows[name, layer(tap)] = {
                "⟨h, g⟩, mean": number(float(row["inner"].mean()), 4, sign=True),
                "same at all layers": "yes" if spread < ROUNDING else "no",
                "alignment": number(float(row["alignment"].mean()), 3, sign=True),
                "ρ, median": number(float(row["rho"].median()), 2),
                "|a| ρ, median": number(float(row["bound"].median()), 3),
            }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["network", "input of"])

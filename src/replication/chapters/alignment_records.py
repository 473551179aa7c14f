"""What the histories of training say of alignment: along plain training, by defence, on the images of training and on others."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from deepdefense.storage import files, paths

from .. import search
from ..figures import COLUMN
from ..scope import DEFENCE_NAMES, PAIRS
from ..wording import NOTHING, number
from . import style
from .alignment import MARKERS, ROUNDING, by_pair
from .style import COLOURS, PALETTE, label

READS = ("full_search", "search", "refine")  # folders of data/results/, for the workflow
PARTS = {"train_subset": "training images as they are", "val": "unseen images"}


def histories(folder: Path | None = None) -> list[dict]:
    """The training records of `folder` (default: data/results/full_search) whose histories hold the alignment of every layer."""
    folder = folder or paths.results_root() / "full_search"
    found = [files.read_json(path) for path in sorted(folder.glob("*.json"))]
    return [one for one in found if one.get("kind") == "training" and "train_subset_alignment_taps" in one["history"][-1]]


def of(records: Sequence[Mapping], pair: tuple[str, str], *defences: str) -> list[Mapping]:
    """Those of one pair, and of some defences if they are given, that finished."""
    mine = [r for r in records if (r["config"]["data"], r["config"]["model"]) == pair and r["status"] == "finished"]
    return [r for r in mine if not defences or r["config"]["objective"] in defences]


def there(records: Sequence[Mapping]) -> str:
    """Which runs at full size the figures are made of, pair by pair."""
    lines = []
    for pair, title in PAIRS.items():
        mine = of(records, pair)
        if mine:
            counted = {name: sum(r["config"]["objective"] == name for r in mine) for name in DEFENCE_NAMES}
            lines.append(f"{title}: " + ", ".join(f"{DEFENCE_NAMES[name]} {n}" for name, n in counted.items() if n))
    return "; ".join(lines) or "none yet"


def along_training(records: Mapping[str, Mapping], start: Mapping[str, Mapping[str, Mapping]] | None = None) -> Figure:
    """{title: training record}: length-weighted alignment of every layer on training images, after every epoch.

    start: {title: alignments of the taps before the first step}, where they are known.
    """
    fig, axes = plt.subplots(1, len(records), figsize=(COLUMN, 3.3), squeeze=False)
    for ax, (title, record) in zip(axes.flat, records.items(), strict=True):
        rows = [row["train_subset_alignment_taps"] for row in record["history"]]
        first = (start or {}).get(title)
        rows, epochs = ([first, *rows], range(len(rows) + 1)) if first else (rows, range(1, len(rows) + 1))
        for depth, (tap, marker, colour) in enumerate(zip(rows[0], MARKERS, COLOURS, strict=False), 1):
            ax.plot(list(epochs), [row[tap]["weighted"] for row in rows], marker=marker, ms=4, color=colour, label=f"layer {depth}")
        ax.axhline(0, color="grey", lw=1)
        ax.set(title=title, xlabel="epoch")
    axes[0, 0].set_ylabel("weighted alignment")
    style.legend_below(fig, ncols=6)
    return fig


def largest_weighted(record: Mapping) -> float:
    """Of all layers after the last epoch, on training images, in magnitude."""
    return max(abs(tap["weighted"]) for tap in record["history"][-1]["train_subset_alignment_taps"].values())


def sign_table(records: Sequence[Mapping]) -> pd.DataFrame:
    """One row a pair, defence and loss: weighted and plain mean alignment at the input, training and unseen images, mean over seeds."""
    rows: dict[tuple, list[Mapping]] = {}
    for pair, title in PAIRS.items():
        for name in DEFENCE_NAMES:
            for record in of(records, pair, name):
                loss = record["config"]["options"].get("loss", "mse")
                rows.setdefault((title, label(record) + (", cross-entropy" if loss == "ce" else "")), []).append(record["history"][-1])
    made = {}
    for key, ends in rows.items():
        made[key] = {
            f"{words}, {'weighted' if kind else 'mean'}": _mean([row[f"{part}_alignment{kind}"] for row in ends])
            for part, words in PARTS.items()
            for kind in ("_weighted", "")
        } | {"seeds": len(ends)}
    index = pd.MultiIndex.from_tuples(list(made), names=["networks", "defence"]) if made else None
    return pd.DataFrame(list(made.values()), index=index)


def _mean(values: Sequence[float | None]) -> str:
    known = [v for v in values if v is not None]
    return number(float(np.mean(known)), 3, sign=True) if known else NOTHING


def weighted_against_mean(records: Sequence[Mapping]) -> Figure:
    """Every run at full size: its mean alignment at the input (what GFA maximises) against the weighted one (what the identity rules)."""
    pairs = [pair for pair in PAIRS if of(records, pair)]
    fig, axes = plt.subplots(1, len(pairs), figsize=(min(COLUMN, 3.65 * len(pairs)), 3.9), squeeze=False)
    for ax, pair in zip(axes.flat, pairs, strict=True):
        for name, marker in style.MARKERS.items():
            mine = [record["history"][-1] for record in of(records, pair, name)]
            if mine:
                x, y = ([row[f"train_subset_alignment{kind}"] for row in mine] for kind in ("", "_weighted"))
                ax.plot(x, y, ls="", marker=marker, ms=6, color=PALETTE[name], label=DEFENCE_NAMES[name], mec="white", mew=0.5)
        ends = ax.get_xlim()
        ax.plot(ends, ends, color="grey", lw=1, ls="--")
        ax.axhline(0, color="grey", lw=1)
        ax.set(title=PAIRS[pair], xlabel="mean alignment")
    axes[0, 0].set_ylabel("weighted by lengths")
    style.legend_below(fig, ncols=4)
    return fig


def left_words(records: Sequence[Mapping]) -> str:
    """What is left of GFA's mean alignment when it is weighted by lengths: the most of any run in a closed loop, pair by pair."""
    said = []
    for pair, title in PAIRS.items():
        aimed = [r["history"][-1] for r in of(records, pair, "gfa-first", "gfa-deep") if r["config"]["options"].get("target")]
        shares = [
            row["train_subset_alignment_weighted"] / row["train_subset_alignment"] for row in aimed if row["train_subset_alignment"] > 0.1
        ]
        if shares:
            said.append(f"{title} at most {100 * max(shares):.0f} % ({len(shares)} runs)")
    return f"Left of GFA's mean alignment in a closed loop, weighted by lengths: {', '.join(said) or NOTHING}."


def seen_and_unseen(records: Sequence[Mapping]) -> Figure | None:
    """GFA in a closed loop: alignment of the batches of training, of training images as they are, and of unseen ones, by epoch."""
    chosen = {}
    for pair, title in PAIRS.items():
        aimed = [r for r in of(records, pair, "gfa-first") if r["config"]["options"].get("target")]
        if aimed:
            chosen[title] = max(aimed, key=lambda r: (r["config"]["options"]["target"], -r["config"]["seed"]))
    if not chosen:
        return None
    fig, axes = plt.subplots(1, len(chosen), figsize=(min(COLUMN, 3.65 * len(chosen)), 3.4), squeeze=False)
    shown = {"train_alignment": "batches, as training has them", **{f"{part}_alignment": words for part, words in PARTS.items()}}
    for ax, (title, record) in zip(axes.flat, chosen.items(), strict=True):
        epochs = [row["epoch"] for row in record["history"]]
        for (key, words), marker in zip(shown.items(), MARKERS, strict=False):
            ax.plot(epochs, [row[key] for row in record["history"]], marker=marker, ms=4, label=words)
        ax.plot(epochs, [row["goal"] for row in record["history"]], color="black", lw=1, ls=":", label="goal")
        ax.axhline(0, color="grey", lw=1)
        shown_as = "as they are" if record["config"]["augment"] == "none" else f"augmented, {record['config']['augment']}"
        ax.set(title=f"{title}\n{label(record)}; batches {shown_as}", xlabel="epoch")
    axes[0, 0].set_ylabel("mean alignment")
    style.legend_below(fig, ncols=4)
    return fig


def seen_table(records: Sequence[Mapping]) -> pd.DataFrame:
    """A row a GFA run with augmentation: what the batches reached, and what the same images have without it, and unseen ones."""
    rows = []
    for record in records:
        config, last = record["config"], record["history"][-1]
        if config["objective"].startswith("gfa") and config["augment"] != "none" and record["status"] == "finished":
            values = [number(last[key], 3, sign=True) for key in ("train_alignment", "train_subset_alignment", "val_alignment")]
            rows.append([PAIRS[config["data"], config["model"]], label(record), config["seed"], *values])
    columns = ["networks", "defence", "seed", "batches", PARTS["train_subset"], PARTS["val"]]
    return pd.DataFrame(rows, columns=columns).set_index(columns[:2])


def ridge(runs: Sequence[search.Trial], pair: tuple[str, str], level: float, classes: int = 10) -> Figure:
    """λ against what came of it, FIRST and DEEP with warm-up over the whole run; `level` is the loss of plain training, a panel a variant.

    The line is at λ = (1 − 1/classes − level)/layers, beyond which a network that says nothing costs less than plain training's does.
    """
    fig, axes = plt.subplots(1, 2, figsize=(COLUMN, 3.3), sharey=True)
    for ax, name in zip(axes, ("gfa-first", "gfa-deep"), strict=True):
        mine = [run for run in search.pick(runs, pair, name) if run.warmup == 1 and not run.varied]
        for status, marker in (("finished", "o"), ("collapsed", "x")):
            some = [run for run in mine if run.status == status]
            ax.plot([r.lam for r in some], [r.alignment for r in some], marker, ms=7, color=PALETTE[name], mew=1.6, label=status)
        ax.axvline(trade(level, classes, LAYERS[name, pair[1]]), color="black", lw=1, ls="--", label="saying nothing costs as little")
        ax.set(title=f"{PAIRS[pair]}, {DEFENCE_NAMES[name]}", xlabel="λ", xlim=(0, None))
    style.legend_below(fig, ncols=3)
    axes[0].set_ylabel("mean alignment at the input")
    return fig


def ridge_words(runs: Sequence[search.Trial], pair: tuple[str, str], name: str, level: float, classes: int = 10) -> str:
    """λ* beside what the runs with warm-up over the whole run did: the largest λ that did not collapse and the smallest that did."""
    mine = [run for run in search.pick(runs, pair, name) if run.warmup == 1 and not run.varied]
    ended = {status: [run.lam for run in mine if run.status == status] for status in ("finished", "collapsed")}
    kept = f"{max(ended['finished']):g}" if ended["finished"] else NOTHING
    lost = f"{min(ended['collapsed']):g}" if ended["collapsed"] else NOTHING
    found = number(trade(level, classes, LAYERS[name, pair[1]]), 2)
    return f"{DEFENCE_NAMES[name]}: λ* = {found}; with λ ramped up, the largest that did not collapse {kept}, the smallest that did {lost}"


LAYERS = {("gfa-first", "cnn"): 1, ("gfa-first", "mlp"): 1, ("gfa-deep", "cnn"): 5, ("gfa-deep", "mlp"): 3}


def trade(level: float, classes: int, layers: int) -> float:
    """The λ at which task loss `level` + λ · layers, no alignment, is the 1 − 1/classes of constant logits that are aligned."""
    return (1 - 1 / classes - level) / layers


def plain_level(runs: Sequence[search.Trial], pair: tuple[str, str]) -> float:
    """The training loss of the plain network of the reduced search, from its record."""
    name = search.plain(runs, pair).name
    (path,) = [path for folder in search.READS for path in (paths.results_root() / folder).glob(f"{name}.json")]
    return files.read_json(path)["history"][-1]["train_task"]


def _moved(one: Mapping) -> str:
    low, high = (number(one["louder"][k]["input"], 2, sign=True) for k in (0, -1))
    return f"{label(one)} from {low} to {high}"


def answer_words(scales: Sequence[Mapping], records: Sequence[Mapping]) -> list[str]:
    """What the page found, from the measures of `replication.experiments.scale` and the histories of training at full size."""
    errors = [row["error"] for one in scales for part in one["identity"].values() for row in part.values()]
    plain = [largest_weighted(r) for pair in PAIRS for r in of(records, pair, "standard")]
    quiet = [r["history"][-1]["train_subset_alignment_weighted"] for pair in PAIRS for r in of(records, pair, "pgd-at", "gnr")]
    said = ["Alignment, weighted by lengths, is the rate at which the loss grows when the weights of a layer are scaled up."]
    if errors:
        equal = sum(error < ROUNDING for error in errors)
        said.append(
            f"Measured on {len(scales)} networks trained on images: both sides equal to rounding at {equal} of {len(errors)} layers."
        )
    if plain:
        said.append(
            f"Plain training ends where it is 0: at most {max(plain):.3f} at any layer of {len(plain)} networks of the search at full size."
        )
    if quiet:
        below = sum(value < 0 for value in quiet)
        said.append(
            f"What quietens a network makes it negative at the input: in {below} of {len(quiet)} runs of adversarial training and GNR "
            "of that search."
        )
    same = [one for one in scales if one["status"] == "finished" and {row["answers"] for row in one["louder"]} == {1.0}]
    if same:
        moved = "; ".join(f"{title}: {', '.join(map(_moved, mine))}" for title, mine in by_pair(same).items())
        said.append(f"Louder logits move the mean alignment at the input and change no answer: {moved}. So it is no measure of robustness.")
    return said

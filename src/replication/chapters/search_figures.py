"""Pictures of the search, from its runs: the landscape over λ, the map, robust against clean accuracy, and what else was varied.

All figures are of validation images after the last epoch. Error bars are 95 % Wilson intervals over images; they say nothing of
how much another seed would differ.
"""

from collections.abc import Sequence

import numpy as np
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from deepdefense.evaluation.report import wilson

from ..scope import DEFENCE_NAMES, VARIANTS
from ..search import Pair, Trial, choose, describe, pairs_of, pick, plain
from .search_tables import ALIGNED, CLOSE, effects, title
from .style import PALETTE

QUANTITIES = {"clean": "clean accuracy (%)", "robust": "robust accuracy (%)", "alignment": "alignment"}
REFERENCES = ("standard", "gnr", "pgd-at")
LINES = dict(zip(REFERENCES, (":", "--", "-."), strict=True))
MARKERS = {"standard": "D", "gnr": "^", "pgd-at": "v", "gfa-first": "o", "gfa-deep": "s"}
WARMUPS = {0.0: "o", 0.5: "s", 1.0: "^"}
ROOM = 0.1  # how far below the other defences' clean accuracy the plane of both accuracies is drawn
WIDTH = 7.2  # of every figure, in inches
EDGE = dict(markeredgecolor="white", markeredgewidth=0.5)
CROSS = dict(marker="x", ls="", color="black", ms=6, mew=1.6)


def _value(run: Trial, quantity: str) -> float:
    return getattr(run, quantity) * (1 if quantity == "alignment" else 100)


def _n(run: Trial, quantity: str) -> int:
    return run.n_clean if quantity == "clean" else run.config.val_size


def _bars(runs: Sequence[Trial], quantity: str) -> np.ndarray | None:
    """Lengths (2, N) of the bars below and above, in points; None for the alignment, whose spread over images is not recorded."""
    if quantity == "alignment":
        return None
    ends = [wilson(round(getattr(run, quantity) * _n(run, quantity)), _n(run, quantity)) for run in runs]
    value = np.array([getattr(run, quantity) for run in runs])
    low, high = np.array(ends).T
    return 100 * np.stack([value - low, high - value]).clip(0)


def _shade(colour, warmup: float):
    """Light without a warm-up, dark with one of the whole run."""
    light, dark = sns.light_palette(colour, 5)[2], sns.dark_palette(colour, 5)[2]
    return sns.blend_palette([light, colour, dark], 101)[round(100 * warmup)]


def _levels(runs: Sequence[Trial], pair: Pair) -> dict[str, Trial]:
    """The networks that GFA is measured against: plain in base settings, the chosen GNR and adversarially trained ones."""
    chosen = {choice.variant: choice.run for choice in choose(pick(runs, pair))}
    found = {"standard": plain(runs, pair), "gnr": chosen["gnr"], "pgd-at": chosen["pgd-at"]}
    return {name: run for name, run in found.items() if run}


def _ticks(ax: Axes, lams: Sequence[float]) -> None:
    """A log axis with a tick at 1, 2, 5 · 10^k within the λ tried."""
    ax.set_xscale("log")
    low, high = min(lams) / 1.25, max(lams) * 1.25
    ticks = [m * 10.0**k for k in range(-6, 7) for m in (1, 2, 5) if low <= m * 10.0**k <= high]
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlim(low, high)


def _gid(run: Trial, of: str = "") -> str:
    return f"point-{run.name}{of}"


def points(runs: Sequence[Trial]) -> dict[str, str]:
    """{gid of a mark: what run it is} for those who point at it, in `trade_off` and in `landscape`."""
    return {
        _gid(run, of): f"{DEFENCE_NAMES[run.variant]}: {describe(run)}" for run in runs for of in ("", "-clean", "-robust", "-alignment")
    }


def landscape(runs: Sequence[Trial], pair: Pair) -> Figure:
    """What λ does to a pair, base settings: a row a variant, a column a quantity, a line a warm-up, × where a run collapsed."""
    base = [run for run in pick(runs, pair, *VARIANTS) if not run.varied]
    levels = _levels(runs, pair)
    fig, axes = plt.subplots(2, 3, figsize=(WIDTH, 5.2), sharey="col", squeeze=False)
    for row, variant in zip(axes, VARIANTS, strict=True):
        mine = [run for run in base if run.variant == variant]
        for ax, (quantity, name) in zip(row, QUANTITIES.items(), strict=True):
            for reference, run in levels.items():
                ax.axhline(_value(run, quantity), color=PALETTE[reference], ls=LINES[reference], lw=1.6, zorder=1)
            for warmup in sorted({run.warmup for run in mine}):
                _lam_line(ax, [run for run in mine if run.warmup == warmup], quantity, warmup)
            if mine:
                _ticks(ax, [run.lam for run in mine])
            if variant == VARIANTS[0]:
                n = "" if not base else f"\nn = {_n(base[0], quantity):,}"
                ax.set_title(name + n, fontsize=9)
            ax.tick_params(labelsize=8)
        row[0].set_ylabel(DEFENCE_NAMES[variant])
    for ax in axes[1]:
        ax.set_xlabel("λ")
    for ax in axes[:, :2].flat:
        ax.set_ylim(bottom=0)
    _legend(fig, _landscape_keys(base, levels), title(pair))
    return fig


def _lam_line(ax: Axes, mine: Sequence[Trial], quantity: str, warmup: float) -> None:
    """One warm-up's runs, by λ; collapsed ones crossed, diverged ones (which have no value) as a bar on the lower edge."""
    mine = sorted(mine, key=lambda run: run.lam)
    known = [run for run in mine if run.status != "diverged"]
    marker, colour = WARMUPS.get(warmup, "P"), _shade(PALETTE[mine[0].variant], warmup)
    lams, values = [run.lam for run in known], [_value(run, quantity) for run in known]
    if known:
        ax.errorbar(lams, values, _bars(known, quantity), marker=marker, color=colour, ms=5, lw=1.4, elinewidth=0.8, **EDGE)
    fallen = [run for run in known if run.status == "collapsed"]
    for run in known:  # one that can be pointed at, over each mark of the line
        ax.plot([run.lam], [_value(run, quantity)], "o", ms=8, alpha=0, gid=_gid(run, f"-{quantity}"), zorder=5)
    ax.plot([run.lam for run in fallen], [_value(run, quantity) for run in fallen], zorder=4, **CROSS)
    gone = [run.lam for run in mine if run.status == "diverged"]
    ax.plot(gone, [0.03] * len(gone), "|", color=colour, ms=12, mew=2, transform=ax.get_xaxis_transform())


def _landscape_keys(base: Sequence[Trial], levels: dict[str, Trial]) -> list[Line2D]:
    keys = []
    for warmup in sorted({run.warmup for run in base}):
        style = dict(color=_shade("grey", warmup), marker=WARMUPS.get(warmup, "P"))
        keys.append(Line2D([], [], **style, label=f"warm-up {warmup:g}", **EDGE))
    for status, key in (("collapsed", CROSS), ("diverged", dict(marker="|", ls="", color="black", ms=10, mew=2))):
        if any(run.status == status for run in base):
            keys.append(Line2D([], [], label=status, **key))
    for name, run in levels.items():
        lam = f", λ = {run.lam:g}" if run.lam else ""
        keys.append(Line2D([], [], color=PALETTE[name], ls=LINES[name], label=DEFENCE_NAMES[name] + lam))
    return keys


def _legend(fig: Figure, keys: Sequence[Line2D], heading: str = "", columns: int = 4) -> None:
    if keys:
        fig.legend(handles=keys, fontsize=8, loc="outside upper center", ncols=min(columns, len(keys)), title=heading, title_fontsize=9)


def _panels(pairs: Sequence[Pair], height: float) -> tuple[Figure, list[Axes]]:
    """A panel a pair, two in a row."""
    rows = -(-len(pairs) // 2)
    fig, axes = plt.subplots(rows, min(2, len(pairs)), figsize=(WIDTH, height * rows + 0.6), squeeze=False)
    for ax in axes.flat[len(pairs) :]:
        ax.axis("off")
    return fig, list(axes.flat[: len(pairs)])


def accuracy_map(runs: Sequence[Trial]) -> Figure:
    """Clean accuracy against alignment, colour: robust accuracy; circles GFA, × collapsed, diamonds the
    other defences; dots: GFA after its earlier epochs."""
    pairs = pairs_of(runs)
    fig, axes = _panels(pairs, 3.2)
    known = [run for run in runs if run.status != "diverged"]
    kinds = {
        "GFA": ("o", lambda run: run.variant in VARIANTS and run.status == "finished"),
        "GFA, collapsed": ("X", lambda run: run.variant in VARIANTS and run.status == "collapsed"),
        "plain, GNR, PGD-7 training": ("D", lambda run: run.variant not in VARIANTS),
    }
    for ax, pair in zip(axes, pairs, strict=True):
        here = pick(known, pair)
        scale = dict(cmap="viridis", vmin=0, vmax=max((100 * run.robust for run in here), default=1))
        reference = plain(here, pair)
        if reference:
            low = 100 * (reference.clean - CLOSE)
            ax.axhline(low, color="black", ls="--", lw=0.8)
        ax.axvline(ALIGNED, color="black", ls="--", lw=0.8)
        way = [state for run in here if run.variant in VARIANTS for state in run.epochs[:-1]]
        ax.plot([state[2] for state in way], [100 * state[0] for state in way], ".", color="darkgrey", ms=3, zorder=2, rasterized=True)
        for marker, belongs in kinds.values():
            mine = [run for run in here if belongs(run)]
            x, y, shade = ([_value(run, name) for run in mine] for name in ("alignment", "clean", "robust"))
            points = ax.scatter(x, y, c=shade, marker=marker, s=46, edgecolors="black", linewidths=0.6, zorder=3, **scale)
        gone = sum(run.status == "diverged" for run in pick(runs, pair))
        ax.set_title(f"{title(pair)}, {len(here)} runs" + (f" ({gone} diverged)" if gone else ""), fontsize=9)
        bar = fig.colorbar(points, ax=ax, aspect=30)
        bar.set_label("robust accuracy (%)", fontsize=9)
        bar.ax.tick_params(labelsize=8)
        ax.set_xlabel("alignment at the input", fontsize=9)
        ax.set_ylabel("clean accuracy (%)", fontsize=9)
        ax.set_ylim(bottom=0)
        ax.tick_params(labelsize=8)
    grey = dict(ls="", color="lightgrey", markeredgecolor="black", ms=7)
    keys = [Line2D([], [], marker=marker, label=name, **grey) for name, (marker, _) in kinds.items()]
    keys.append(Line2D([], [], ls="", marker=".", color="darkgrey", label="GFA, earlier epochs"))
    keys.append(Line2D([], [], color="black", ls="--", lw=0.8, label=f"alignment {ALIGNED:g}; plain − {100 * CLOSE:g} points"))
    _legend(fig, keys, columns=3)
    return fig


def front(runs: Sequence[Trial]) -> list[Trial]:
    """The runs that no other beats in clean and robust accuracy at once, by falling clean accuracy."""
    best, found = -1.0, []
    for run in sorted(runs, key=lambda run: (-run.clean, -run.robust, run.name)):
        if run.robust > best:
            best = run.robust
            found.append(run)
    return found


def trade_off(runs: Sequence[Trial]) -> Figure:
    """Robust against clean accuracy: filled what the rule may choose, hollow what it may not, × collapsed; rings: the chosen."""
    pairs, choices = pairs_of(runs), choose(runs)
    fig, axes = _panels(pairs, 3.3)
    for ax, pair in zip(axes, pairs, strict=True):
        here = [run for run in pick(runs, pair) if run.status != "diverged"]
        for variant in (*VARIANTS, *REFERENCES):
            for run in (run for run in here if run.variant == variant):
                size, order = (5, 3) if variant in VARIANTS else (8, 4)
                marker, face = MARKERS[variant], PALETTE[variant] if run.eligible else "none"
                if run.status == "collapsed":
                    marker, order = "x", 2
                style = dict(marker=marker, ms=size, ls="", zorder=order, markeredgecolor=PALETTE[variant], gid=_gid(run))
                ax.plot(100 * run.clean, 100 * run.robust, markerfacecolor=face, **style)
        best = front([run for run in here if run.variant in VARIANTS and run.eligible])
        if best:
            x, y = ([_value(run, name) for run in best] for name in ("clean", "robust"))
            ax.step(x, y, where="post", color="black", lw=1, zorder=2)
            ax.errorbar(x, y, _bars(best, "robust"), fmt="none", ecolor="black", elinewidth=0.7, zorder=2)
        for choice in (c for c in choices if c.pair == pair and c.run):
            ax.plot(100 * choice.run.clean, 100 * choice.run.robust, "o", ms=13, mfc="none", mec="black", mew=1.2, zorder=5)
        n = sorted({run.config.val_size for run in here})
        out = _close_in(ax, here)
        ax.set_title(f"{title(pair)}, {len(here)} runs" + (f", {out} further left" if out else ""), fontsize=9)
        ax.set_xlabel("clean accuracy (%)", fontsize=9)
        ax.set_ylabel(f"robust accuracy (%), n = {', '.join(map(str, n))}", fontsize=9)
        ax.tick_params(labelsize=8)
    keys = [Line2D([], [], ls="", marker=MARKERS[v], color=PALETTE[v], ms=6, label=DEFENCE_NAMES[v]) for v in (*REFERENCES, *VARIANTS)]
    keys += [
        Line2D([], [], ls="", marker="o", mfc="none", mec="grey", ms=6, label="may not be chosen"),
        Line2D([], [], ls="", marker="x", color="grey", ms=6, label="collapsed"),
        Line2D([], [], ls="", marker="o", mfc="none", mec="black", ms=11, label="chosen"),
        Line2D([], [], color="black", lw=1, label="front of GFA"),
    ]
    _legend(fig, keys)
    return fig


def _close_in(ax: Axes, here: Sequence[Trial]) -> int:
    """Start the axis of clean accuracy `ROOM` below the least accurate defence other than GFA; number of runs left of that."""
    others = [run.clean for run in here if run.variant not in VARIANTS and run.eligible]
    low = min(others) - ROOM if others else 0.0
    shown = [run for run in here if run.clean >= low]
    if others:
        ax.set_xlim(100 * low, 100 * max(run.clean for run in shown) + 1.5)
        ax.set_ylim(100 * min(run.robust for run in shown) - 3, 100 * max(run.robust for run in shown) + 4)
    return len(here) - len(shown)


def effects_figure(runs: Sequence[Trial], pair: Pair) -> Figure:
    """Each other choice against the run in base settings of the same defence, λ and warm-up: differences. × the run collapsed, hollow
    its twin did."""
    found = effects(runs, pair)
    names = list(dict.fromkeys(name for name, _, _ in found))
    there = [variant for variant in MARKERS if any(run.variant == variant for _, run, _ in found)]
    fig, axes = plt.subplots(1, 3, figsize=(WIDTH, 1.3 + 0.27 * max(3, len(names))), sharey=True)
    for ax, (quantity, label) in zip(axes, QUANTITIES.items(), strict=True):
        ax.axvline(0, color="black", lw=0.8)
        for index, name in enumerate(names):
            mine = sorted((one for one in found if one[0] == name), key=lambda one: (there.index(one[1].variant), one[1].lam))
            for y, (_, run, other) in zip(index + _spread(len(mine)), mine, strict=True):
                _difference(ax, y, run, other, quantity)
        unit = "points" if quantity != "alignment" else "difference"
        ax.set_xlabel(f"{label.removesuffix(' (%)')}\n({unit})", fontsize=9)
        ax.tick_params(labelsize=8)
        ax.grid(axis="y", visible=False)
        for index in range(0, len(names), 2):
            ax.axhspan(index - 0.5, index + 0.5, color="grey", alpha=0.08, lw=0)
    axes[0].set_yticks(range(len(names)), names, fontsize=8)
    axes[0].set_ylim(max(1, len(names)) - 0.5, -0.5)
    keys = [Line2D([], [], ls="", marker=MARKERS[v], color=PALETTE[v], label=DEFENCE_NAMES[v]) for v in there]
    if any(run.status == "collapsed" for _, run, _ in found):
        keys.append(Line2D([], [], label="collapsed", **CROSS))
    if any(other.status == "collapsed" for _, _, other in found):
        keys.append(Line2D([], [], ls="", marker="o", mfc="none", mec="grey", label="base run collapsed"))
    _legend(fig, keys, title(pair), columns=6)
    return fig


def _spread(count: int) -> np.ndarray:
    """Small shifts for `count` dots of a row."""
    return np.linspace(-0.3, 0.3, count) if count > 1 else np.zeros(1)


def _difference(ax: Axes, y: float, run: Trial, other: Trial, quantity: str) -> None:
    """One dot; the bar of an accuracy is that of two independent samples, an upper limit since both see the same images."""
    value, bars = _value(run, quantity) - _value(other, quantity), None
    if quantity != "alignment":
        mine, base = _bars([run], quantity), _bars([other], quantity)[::-1]  # below: where run is low and its twin high
        bars = np.sqrt(mine**2 + base**2)
    colour = PALETTE[run.variant]
    face = "white" if other.status == "collapsed" else colour
    ax.errorbar([value], [y], xerr=bars, marker=MARKERS[run.variant], color=colour, mfc=face, mec=colour, ms=5, ls="", elinewidth=0.7)
    if run.status == "collapsed":
        ax.plot([value], [y], zorder=4, **CROSS | {"ms": 5, "mew": 1.2})

"""Tables and figures of what the paper's protocol can do: gaps and distances against clean accuracy. They run no model."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .. import intervals, scope
from ..claims import extra, protocol_quantities
from ..claims.protocol_quantities import Trio, UnderProtocol
from ..estimates import mean_sd
from ..figures import COLUMN
from ..scope import CNN, MLP, PAIRS
from ..wording import NOTHING, number
from .style import PALETTE, label

AT_EIGHT = ("FGSM", "PGD", "APGD", "APGDT", "FAB", "Square")
MARKS = {True: "X", False: "o"}
CLAIMED_RATIO = (20, 30)  # of the distances to plain training's
NONE_WITH_ENOUGH = f"no network with {intervals.FEW} common images"


def gfa_trios(networks: Sequence[UnderProtocol]) -> list[Trio]:
    """Each GFA network with plain and adversarial training of its seed; those without are left out."""
    ours = [one for one in networks if one.defence in scope.VARIANTS]
    return [trio for one in ours for trio in protocol_quantities.trios(networks, [one]).values()]


def state(one: UnderProtocol, rival: UnderProtocol) -> str:
    """ "collapsed" (clean accuracy of at most 15 %), "half collapsed" (below adversarial training's), "works", or "diverged"."""
    if one.collapsed:
        return "collapsed"
    if np.isnan(one.clean):
        return "diverged"
    return "works" if one.finished and one.clean >= rival.clean else "half collapsed"


def present(networks: Sequence[UnderProtocol]) -> str:
    """What records there are, and how many of the collapsed networks that E1 asks for."""
    trios = gfa_trios(networks)
    collapsed = [t.ours for t in trios if t.ours.collapsed and t.ours.seed not in scope.SEARCH_SEEDS]
    of_e1 = {(one.pair, one.defence, one.seed) for one in collapsed if one.pair in (CNN, MLP)}
    seen = {(pair, variant): sum(key[:2] == (pair, variant) for key in of_e1) for pair in (CNN, MLP) for variant in scope.VARIANTS}
    enough = sum(min(one, 3) for one in seen.values())
    states = [state(t.ours, t.rival) for t in trios]
    names = ("collapsed", "half collapsed", "works", *(["diverged"] if "diverged" in states else []))
    counted = ", ".join(f"{states.count(name)} {name}" for name in names)
    return (
        f"{len(networks)} networks under the paper's protocol; {len(trios)} GFA networks with both rivals of their seed ({counted}). "
        f"Of the 12 collapsed networks that E1 asks for (2 pairs, 2 variants, 3 seeds) {enough} are there."
    )


def _mean(trio: Trio, net: UnderProtocol, attack: str, what: int | str) -> tuple[float, int] | None:
    """(mean over the common images that were attacked, their number)."""
    values = net.column(attack, what)
    if values is None:
        return None
    mask = trio.common()
    mask &= ~np.isnan(values[: len(mask)])
    return (float(values[: len(mask)][mask].mean()), int(mask.sum())) if mask.any() else None


def _kept(trio: Trio, attack: str, level: int) -> str:
    """What both keep: percentages, or counts where there are fewer than 30 images."""
    both = [_mean(trio, net, attack, level) for net in (trio.ours, trio.rival)]
    if None in both:
        return NOTHING
    (ours, n), (theirs, m) = both
    if min(n, m) < intervals.FEW:
        return f"{round(ours * n)} : {round(theirs * m)} of {n}"
    return f"{100 * ours:.1f} : {100 * theirs:.1f}"


def ratio(trio: Trio, attack: str) -> float | None:
    """Mean distance over that of plain training, as the attack returned them; None below 30 common images or without a distance."""
    found = protocol_quantities.distance_ratio({trio.ours.seed: trio}, attack)
    return found and found[0].mean


def gaps(trio: Trio, attack: str) -> dict[int, float]:
    """{255 eps: gap to adversarial training in points}; empty below 30 common images."""
    found = {}
    for level in protocol_quantities.levels({trio.ours.seed: trio}, attack):
        both = [_mean(trio, net, attack, level) for net in (trio.ours, trio.rival)]
        if None not in both and both[0][1] >= intervals.FEW:
            found[level] = 100 * (both[0][0] - both[1][0])
    return found


def networks_table(networks: Sequence[UnderProtocol], level: int = 8) -> pd.DataFrame:
    """A row a GFA network: what the paper's protocol does not print, and what it prints; kept by GFA : by adversarial training."""
    rows = []
    for trio in gfa_trios(networks):
        ours, n = trio.ours, int(trio.common().sum())
        row = {
            "networks": PAIRS.get(ours.pair, ", ".join(ours.pair)),
            "defence": label({"config": ours.config}),
            "seed": ours.seed,
            "state": state(ours, trio.rival),
            "clean (%)": number(100 * ours.clean),
            "classes answered": ours.record["classes_answered"],
            "common images": n,
        }
        for attack in extra.POINTS:
            found = gaps(trio, attack)
            best = max(found, key=found.get) if found else None
            row[f"best gap, {attack} (points)"] = number(found[best], sign=True) if found else NOTHING
            row[f"at eps (1/255), {attack}"] = str(best) if found else NOTHING
        for attack in extra.DISTANCES:
            found = ratio(trio, attack)
            row[f"{attack} (× plain)"] = NOTHING if found is None else number(found, 2)
        row |= {attack: _kept(trio, attack, level) for attack in AT_EIGHT}
        rows.append(row)
    return pd.DataFrame(rows).set_index(["networks", "defence"]) if rows else pd.DataFrame()


def sentence(trio: Trio, attack: str = "APGD") -> str:
    """What the protocol prints of a network, and what it does not, in a sentence made from its record."""
    found, n = gaps(trio, attack), int(trio.common().sum())
    classes = trio.ours.record["classes_answered"]
    answered = f"{classes} class{'es' if classes != 1 else ''} answered"
    said = f"Clean accuracy {100 * trio.ours.clean:.1f} %, {answered}, {n} common images: "
    if not found:
        return said + f"fewer than {intervals.FEW}, so no percentage is given."
    best = max(found, key=found.get)
    way = "above" if found[best] > 0 else "below"
    return said + f"under ten-step {attack} at {best}/255 it is {number(abs(found[best]))} points {way} adversarial training."


def _scatter(ax, trios: Sequence[Trio], value) -> int:
    """One mark a network against its clean accuracy; the number of networks with a value."""
    shown = 0
    for trio in trios:
        y = value(trio)
        if y is None or not np.isfinite(y):
            continue
        shown += 1
        marker = MARKS[trio.ours.collapsed]
        colour = PALETTE[trio.ours.defence]
        ax.scatter(100 * trio.ours.clean, y, marker=marker, color=colour, s=55, edgecolor="white", linewidth=0.6, zorder=3)
    return shown


def _keys(fig: Figure) -> None:
    """What marks and colours mean, below the panels."""
    handles = [plt.Line2D([], [], ls="", marker="s", color=PALETTE[name], label=scope.DEFENCE_NAMES[name]) for name in scope.VARIANTS]
    handles += [
        plt.Line2D([], [], ls="", marker=MARKS[yes], color="0.4", label=said)
        for yes, said in ((True, "collapsed"), (False, "not collapsed"))
    ]
    fig.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)


def gap_figure(networks: Sequence[UnderProtocol]) -> Figure:
    """The best gap to adversarial training against clean accuracy, one mark a network; the paper's numbers as lines."""
    trios = gfa_trios(networks)
    fig, axes = plt.subplots(1, 2, figsize=(COLUMN, 3.7), sharey=True)
    for ax, (attack, claimed) in zip(axes, extra.POINTS.items(), strict=True):
        shown = _scatter(ax, trios, lambda trio, attack=attack: max(gaps(trio, attack).values(), default=None))
        ax.axhline(claimed, color="black", ls="--", lw=1.2)
        ax.text(0.98, claimed, f"the paper: +{claimed}", transform=ax.get_yaxis_transform(), ha="right", va="bottom")
        ax.axhline(0, color="0.5", lw=0.8)
        title = f"{attack}: {shown} of {len(trios)} networks"
        ax.set(title=title, xlabel="clean accuracy (%)", xlim=(0, 100))
    axes[0].set_ylabel("best gap to adversarial training\n(points, common images)")
    _keys(fig)
    return fig


def ratio_figure(networks: Sequence[UnderProtocol]) -> Figure:
    """The ratio of distances to plain training against clean accuracy, one mark a network; the paper's range as a band."""
    trios = gfa_trios(networks)
    fig, axes = plt.subplots(1, 2, figsize=(COLUMN, 3.7), sharey=True)
    for ax, attack in zip(axes, extra.DISTANCES, strict=True):
        shown = _scatter(ax, trios, lambda trio, attack=attack: ratio(trio, attack) or None)
        ax.axhspan(*CLAIMED_RATIO, color="0.85", zorder=0)
        ax.text(0.98, 24.5, "the paper: 20–30×", transform=ax.get_yaxis_transform(), ha="right", va="center")
        ax.axhline(1, color="0.5", lw=0.8)
        ax.set(title=f"{attack}: {shown} of {len(trios)} networks", xlabel="clean accuracy (%)", xlim=(0, 100), yscale="log")
    axes[0].set_ylabel("mean distance / that of plain training")
    _keys(fig)
    return fig


def mistakes_table(networks: Sequence[UnderProtocol]) -> pd.DataFrame:
    """What each mistake of evaluation does to networks that work, by setting; the value nearest to the claimed one."""
    rows = {}
    for (pair, _, _), some in protocol_quantities.groups(networks, lambda one: extra.works(one, networks)).items():
        alone, together = extra.mistakes_of(networks, some)
        name = f"{PAIRS.get(pair, ', '.join(pair))}, {label({'config': some[0].config})}"
        rows[name] = {mistake: extra.best_words(found) for mistake, found in [*alone.items(), ("all together", together)]}
    return pd.DataFrame(rows).rename_axis("mistake")


def suspicions(networks: Sequence[UnderProtocol]) -> str:
    """How many of the collapsed networks reach each of the paper's numbers, and how many of those that work, counted in the records."""
    lines = []
    for name in ("collapsed", "works"):
        mine = [trio for trio in gfa_trios(networks) if state(trio.ours, trio.rival) == name]
        for attack, claimed in extra.POINTS.items():
            best = [max(found.values()) for trio in mine if (found := gaps(trio, attack))]
            if not best:
                lines.append(f"{name}, {attack}: {NONE_WITH_ENOUGH}")
                continue
            mean = f", best gap {number(mean_sd(best)[0], sign=True)} points on average"
            reach = sum(one >= claimed for one in best)
            lines.append(f"{name}, {attack}: {reach} of {len(best)} networks with 30 common images reach +{claimed}{mean}")
    return "\n".join(lines)


def ratio_words(networks: Sequence[UnderProtocol]) -> str:
    """How many networks reach the paper's lower end of the ratio of distances, collapsed ones and those that work."""
    lines = []
    for name in ("collapsed", "works"):
        mine = [trio for trio in gfa_trios(networks) if state(trio.ours, trio.rival) == name]
        for attack in extra.DISTANCES:
            found = [one for trio in mine if (one := ratio(trio, attack)) is not None]
            if not found:
                lines.append(f"{name}, {attack}: {NONE_WITH_ENOUGH}")
                continue
            most = f", at most {number(max(found), 2)}×"
            lines.append(f"{name}, {attack}: {sum(one >= CLAIMED_RATIO[0] for one in found)} of {len(found)} networks reach 20×{most}")
    return "\n".join(lines)

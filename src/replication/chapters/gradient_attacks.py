"""Pictures and tables of the headline networks under gradient attacks: claims C1, C2 and C6. They run no model."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .. import intervals
from ..claims import quantities, scoreboard
from ..networks import Network, by_seed, of, present, swept_attacks
from ..scope import DEFENCE_NAMES, DEFENCES, PAIRS
from ..wording import NOTHING, spread
from .style import PALETTE


def shares(kept: Sequence[np.ndarray]) -> str:
    """`spread` of the shares in %, of one bool array (N,) a seed; below 30 images in any seed how many of how many instead."""
    kept = [mask for mask in kept if len(mask)]
    if kept and min(map(len, kept)) < intervals.FEW:
        return ", ".join(f"{int(mask.sum())} of {len(mask)}" for mask in kept)
    return spread([100 * float(mask.mean()) for mask in kept])


def accuracy_table(networks: Sequence[Network], pair: tuple[str, str]) -> pd.DataFrame:
    """One row a defence of `pair`: accuracies in % at 8/255, mean ± standard deviation over seeds; counts below 30 images.

    Clean on the whole test set; the sweep's attacks on its images; AutoAttack, adaptive attacks and the worst case of the two on
    the report's images, clean errors counted as broken.
    """
    rows = []
    for defence in DEFENCES:
        group = of(networks, pair, defence)
        swept = [n for n in group if n.sweep is not None]
        attacked = [n for n in group if quantities.worst_case(n) is not None]
        row = {PAIRS[pair]: DEFENCE_NAMES[defence], "clean": spread([100 * n.clean for n in group if n.record["metrics"]["last"]])}
        row |= {name: shares([n.sweep[f"{name}/8"] for n in swept]) for name in swept_attacks(networks)}
        for suite, title in (("standard", "AutoAttack"), ("adaptive", "adaptive")):
            row[title] = shares([n.reports["linf"].robust(*n.reports["linf"].in_suite(suite)) for n in attacked])
        row["worst case"] = shares([quantities.worst_case(n) for n in attacked])
        rows.append(row | {"seeds": len(group)})
    return pd.DataFrame(rows).set_index(PAIRS[pair])


def numbers_of_images(networks: Sequence[Network], pair: tuple[str, str]) -> str:
    """How many images stand behind the columns of `accuracy_table`."""
    group = of(networks, pair)
    swept = sorted({len(n.sweep["label"]) for n in group if n.sweep is not None})
    attacked = sorted({len(n.reports["linf"].label) for n in group if "linf" in n.reports})
    both = [mask for s in by_seed(networks, pair).values() if (mask := quantities.common(s)) is not None]
    shared = f"; all five networks of a seed are right on {', '.join(str(int(m.sum())) for m in both)} of them" if both else ""
    words = [" and ".join(map(str, n)) or "no" for n in (swept, attacked)]
    return f"{PAIRS[pair]}: sweep over eps on {words[0]} test images{shared}; AutoAttack and adaptive attacks on {words[1]}."


def paper_table(networks: Sequence[Network], pair: tuple[str, str]) -> pd.DataFrame:
    """The paper's bounded attacks one by one, in % of the images that all five networks of a seed get right, at 8/255.

    n: how many images these are, of every seed; below 30 the cells are counts.
    """
    attacks = _paper_attacks(networks)
    rows = {defence: {key: [] for key in attacks} for defence in DEFENCES}
    images = []
    for seed in by_seed(networks, pair).values():
        reports = {d: seed[d].reports.get("linf") for d in DEFENCES if d in seed}
        if len(reports) < len(DEFENCES) or any(r is None or "paper" not in r.suites for r in reports.values()):
            continue
        shared = np.all([report.clean for report in reports.values()], axis=0)
        images.append(int(shared.sum()))
        for defence, report in reports.items():
            for key in report.in_suite("paper", bounded=True):
                rows[defence][key].append(report.robust(key)[shared])
    n = scoreboard.span(images) if images else NOTHING
    titles = {key: key.removeprefix("paper/") for key in attacks}
    table = [{PAIRS[pair]: DEFENCE_NAMES[d], **{titles[key]: shares(kept) for key, kept in row.items()}, "n": n} for d, row in rows.items()]
    return pd.DataFrame(table).set_index(PAIRS[pair])


def _paper_attacks(networks: Sequence[Network]) -> list[str]:
    """The paper's attacks within eps that the L∞ reports of `networks` name, in their order."""
    reports = [n.reports["linf"] for n in networks if "linf" in n.reports and "paper" in n.reports["linf"].suites]
    return list(dict.fromkeys(key for report in reports for key in report.in_suite("paper", bounded=True)))


def eps_curves(networks: Sequence[Network], pair: tuple[str, str]) -> Figure:
    """Survival against eps: FGSM and APGD on the commonly correct images, margin PGD on all; a band from lowest to highest seed.

    A seed with fewer than 30 such images is not drawn, and a panel without any says so.
    """
    seeds = by_seed(networks, pair)
    shown = (("FGSM", True), ("APGD-100", True), ("PGD-20 margin", False))
    fig, axes = plt.subplots(1, 3, figsize=(11, 3.6), sharey=True)
    for ax, (attack, shared) in zip(axes, shown, strict=True):
        levels = quantities.levels(seeds, attack)
        for defence in DEFENCES:
            curves = [_curve(networks_of, defence, attack, shared, levels) for networks_of in seeds.values()]
            curves = np.array([curve for curve in curves if curve is not None])
            if len(curves) == 0:
                continue
            ax.plot((0, *levels), curves.mean(0), marker="o", ms=3, color=PALETTE[defence], label=DEFENCE_NAMES[defence])
            ax.fill_between((0, *levels), curves.min(0), curves.max(0), color=PALETTE[defence], alpha=0.2, lw=0)
        if not ax.lines:
            ax.text(0.5, 0.5, f"fewer than {intervals.FEW} images", ha="center", va="center", transform=ax.transAxes)
        images = "images all five get right" if shared else "all images"
        ax.set(title=f"{attack}\n{images}", xlabel="eps (1/255), L∞", xticks=(0, *levels[2:]), ylim=(0, 102))
    axes[0].set_ylabel("right after the attack (%)")
    fig.suptitle(PAIRS[pair], fontsize=11)
    if axes[-1].lines:
        axes[-1].legend(fontsize=8)
    return fig


def _curve(networks: Mapping[str, Network], defence: str, attack: str, shared: bool, levels: Sequence[int]) -> np.ndarray | None:
    if defence not in networks or networks[defence].sweep is None:
        return None
    swept = networks[defence].sweep
    right = swept["prediction"] == swept["label"]
    mask = quantities.common(networks) if shared else np.ones_like(right)
    if mask is None or mask.sum() < intervals.FEW:
        return None
    return 100 * np.array([right[mask].mean(), *(swept[f"{attack}/{level}"][mask].mean() for level in levels)])


def gaps_table(networks: Sequence[Network], attacks: Mapping[str, float] = scoreboard.CLAIMED) -> pd.DataFrame:
    """GFA minus adversarial training in points, by pair and attack: both readings, the strict gap, the word of the plan's rule.

    Beside a gap stand the most that it could have been (the ceiling) and n, the images of a seed; "claim in reach" names the eps
    at which the ceiling is as large as the claim. attacks: {name in the sweep: what the paper claims for it, in points}
    """
    rows = []
    for pair in present(networks):
        seeds = by_seed(networks, pair)
        for attack, claimed in attacks.items():
            gap = scoreboard.gap(seeds, attack, claimed)
            ceilings = {level: quantities.ceiling(seeds, attack, level) for level in quantities.levels(seeds, attack)}
            reached = [str(level) for level, one in ceilings.items() if one is not None and one.reaches(claimed)]
            rows.append({
                "networks": PAIRS[pair],
                "attack": attack,
                "claim in reach": f"at {', '.join(reached)} /255" if reached else "at no eps",
                "at 8/255": gap.fixed.words() if gap.fixed else NOTHING,
                "best over eps": gap.best_words(),
                "strict, 8/255": gap.strict_words(),
                "by the rule": gap.verdict,
            })  # fmt: skip
    return pd.DataFrame(rows).set_index(["networks", "attack"])

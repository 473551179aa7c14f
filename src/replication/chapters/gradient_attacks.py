"""Pictures and tables of the headline networks under gradient attacks: claims C1, C2 and C6. They run no model."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from deepdefense.attacks import paper
from deepdefense.attacks.suites import GRADIENT

from .. import wording
from ..claims import quantities, scoreboard
from ..networks import Network, by_seed, of, present
from ..scope import DEFENCE_NAMES, DEFENCES, LEVELS, PAIRS
from ..wording import NOTHING, spread
from .style import PALETTE

SWEPT, PAPER_ATTACKS = tuple(GRADIENT), tuple(paper.BOUNDED)


def accuracy_table(networks: Sequence[Network], pair: tuple[str, str]) -> pd.DataFrame:
    """One row a defence of `pair`: accuracies in % at 8/255, mean ± standard deviation over seeds.

    Clean on the whole test set; the sweep's attacks on its images; AutoAttack, adaptive attacks and the worst case of the two on
    the report's images, clean errors counted as broken.
    """
    rows = []
    for defence in DEFENCES:
        group = of(networks, pair, defence)
        swept = [n for n in group if n.sweep is not None]
        attacked = [n for n in group if quantities.worst_case(n) is not None]
        row = {PAIRS[pair]: DEFENCE_NAMES[defence], "clean": spread([100 * n.clean for n in group if n.record["metrics"]["last"]])}
        row |= {name: spread([100 * float(n.sweep[f"{name}/8"].mean()) for n in swept]) for name in SWEPT}
        for suite, title in (("standard", "AutoAttack"), ("adaptive", "adaptive")):
            row[title] = spread([100 * float(n.reports["linf"].robust(*n.reports["linf"].in_suite(suite)).mean()) for n in attacked])
        row["worst case"] = spread([100 * float(quantities.worst_case(n).mean()) for n in attacked])
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
    """The paper's bounded attacks one by one, in % of the images that all five networks of a seed get right, at 8/255."""
    rows = {defence: {name: [] for name in PAPER_ATTACKS} for defence in DEFENCES}
    for seed in by_seed(networks, pair).values():
        reports = {d: seed[d].reports.get("linf") for d in DEFENCES if d in seed}
        if len(reports) < len(DEFENCES) or any(r is None or "paper" not in r.suites for r in reports.values()):
            continue
        shared = np.all([report.clean for report in reports.values()], axis=0)
        for defence, report in reports.items():
            for name in PAPER_ATTACKS:
                rows[defence][name].append(100 * float(report.robust(f"paper/{name}")[shared].mean()))
    table = [{PAIRS[pair]: DEFENCE_NAMES[d], **{name: spread(values) for name, values in row.items()}} for d, row in rows.items()]
    return pd.DataFrame(table).set_index(PAIRS[pair])


def eps_curves(networks: Sequence[Network], pair: tuple[str, str]) -> Figure:
    """Survival against eps: FGSM and APGD on the commonly correct images, margin PGD on all; a band from lowest to highest seed."""
    seeds = by_seed(networks, pair)
    shown = (("FGSM", True), ("APGD-100", True), ("PGD-20 margin", False))
    fig, axes = plt.subplots(1, 3, figsize=(11, 3.6), sharey=True)
    for ax, (attack, shared) in zip(axes, shown, strict=True):
        for defence in DEFENCES:
            curves = [_curve(networks_of, defence, attack, shared) for networks_of in seeds.values()]
            curves = np.array([curve for curve in curves if curve is not None])
            if len(curves) == 0:
                continue
            ax.plot((0, *LEVELS), curves.mean(0), marker="o", ms=3, color=PALETTE[defence], label=DEFENCE_NAMES[defence])
            ax.fill_between((0, *LEVELS), curves.min(0), curves.max(0), color=PALETTE[defence], alpha=0.2, lw=0)
        images = "images all five get right" if shared else "all images"
        ax.set(title=f"{attack}\n{images}", xlabel="eps (1/255), L∞", xticks=(0, *LEVELS[2:]), ylim=(0, 102))
    axes[0].set_ylabel("right after the attack (%)")
    fig.suptitle(PAIRS[pair], fontsize=11)
    if axes[-1].lines:
        axes[-1].legend(fontsize=8)
    return fig


def _curve(networks: Mapping[str, Network], defence: str, attack: str, shared: bool) -> np.ndarray | None:
    if defence not in networks or networks[defence].sweep is None:
        return None
    swept = networks[defence].sweep
    right = swept["prediction"] == swept["label"]
    mask = quantities.common(networks) if shared else np.ones_like(right)
    if mask is None or not mask.any():
        return None
    return 100 * np.array([right[mask].mean(), *(swept[f"{attack}/{level}"][mask].mean() for level in LEVELS)])


def gaps_table(networks: Sequence[Network], attacks: Mapping[str, float] = scoreboard.CLAIMED) -> pd.DataFrame:
    """GFA minus adversarial training in points, by pair and attack: both readings, the strict gap, the word of the plan's rule.

    attacks: {name in the sweep: what the paper claims for it, in points}
    """
    rows = []
    for pair in present(networks):
        seeds = by_seed(networks, pair)
        for attack, claimed in attacks.items():
            gap = scoreboard.gap(seeds, attack, claimed)
            strict = f"{wording.interval(gap.strict[1], sign=True)}, {DEFENCE_NAMES[gap.strict[0]]}" if gap.strict else NOTHING
            rows.append({
                "networks": PAIRS[pair],
                "attack": attack,
                "at 8/255": gap.fixed.words() if gap.fixed else NOTHING,
                "best over eps": gap.best.words() if gap.best else NOTHING,
                "strict, 8/255": strict,
                "by the rule": gap.verdict,
            })  # fmt: skip
    return pd.DataFrame(rows).set_index(["networks", "attack"])

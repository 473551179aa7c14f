"""Pictures and tables of the headline networks under gradient attacks: claims C1, C2 and C6. They run no model."""

import itertools
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .. import intervals, wording
from ..claims import quantities, rival, scoreboard
from ..networks import Network, by_seed, of, present, sides, swept_attacks
from ..scope import COMPARED, DEFENCE_NAMES, PAIRS, ROWS
from ..wording import NOTHING, spread
from .style import MARKERS, PALETTE, legend_below

CURVES = (("FGSM", True), ("APGD-100", True), ("PGD-20 margin", False))  # attack; only images that all five networks get right?


def shares(kept: Sequence[np.ndarray]) -> str:
    """`spread` of the shares in %, of one bool array (N,) a seed; below 30 images in any seed how many of how many instead."""
    kept = [mask for mask in kept if len(mask)]
    if kept and min(map(len, kept)) < intervals.FEW:
        return ", ".join(f"{int(mask.sum())} of {len(mask)}" for mask in kept)
    return spread([100 * float(mask.mean()) for mask in kept])


def accuracy_table(networks: Sequence[Network], pair: tuple[str, str]) -> pd.DataFrame:
    """One of `scope.ROWS` a row: accuracies in % at 8/255, mean ± standard deviation over seeds; counts below 30 images.

    Clean on the whole test set; the sweep's attacks on its images; AutoAttack, adaptive attacks and the worst case of the two on
    the report's images, clean errors counted as broken.
    """
    rows = []
    for name in ROWS:
        group = of(networks, pair, name)
        if not group:
            continue
        swept = [n for n in group if n.sweep is not None]
        attacked = [n for n in group if quantities.worst_case(n) is not None]
        row = {"defence": DEFENCE_NAMES[name], "clean": spread([100 * n.clean for n in group if n.record["metrics"]["last"]])}
        row |= {attack: shares([n.sweep[f"{attack}/8"] for n in swept]) for attack in swept_attacks(networks)}
        for suite, title in (("standard", "AutoAttack"), ("adaptive", "adaptive")):
            row[title] = shares([n.reports["linf"].robust(*n.reports["linf"].in_suite(suite)) for n in attacked])
        row["worst case"] = shares([quantities.worst_case(n) for n in attacked])
        images = {"n, sweep": _span([len(n.sweep["label"]) for n in swept])}
        images["n, AutoAttack"] = _span([len(n.reports["linf"].label) for n in attacked])
        rows.append(row | {"seeds": len(group)} | images)
    return pd.DataFrame(rows).set_index("defence")


def _span(numbers: Sequence[int]) -> str:
    return wording.span(numbers) if numbers else NOTHING


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
    rows = {defence: {key: [] for key in attacks} for defence in COMPARED}
    images = []
    for seed in by_seed(networks, pair).values():
        reports = {d: seed[d].singly for d in COMPARED if d in seed}
        if len(reports) < len(COMPARED) or any(r is None or "paper" not in r.suites for r in reports.values()):
            continue
        shared = np.all([report.clean for report in reports.values()], axis=0)
        images.append(int(shared.sum()))
        for defence, report in reports.items():
            for key in report.in_suite("paper", bounded=True):
                rows[defence][key].append(report.robust(key)[shared])
    n = wording.span(images) if images else NOTHING
    titles = {key: key.removeprefix("paper/") for key in attacks}
    table = [{"defence": DEFENCE_NAMES[d], **{titles[key]: shares(kept) for key, kept in row.items()}, "n": n} for d, row in rows.items()]
    return pd.DataFrame(table).set_index("defence")


def _paper_attacks(networks: Sequence[Network]) -> list[str]:
    """The paper's attacks within eps that the L∞ reports of `networks` name, in their order."""
    reports = [n.singly for n in networks if n.singly is not None and "paper" in n.singly.suites]
    return list(dict.fromkeys(key for report in reports for key in report.in_suite("paper", bounded=True)))


def eps_curves(networks: Sequence[Network], pair: tuple[str, str]) -> Figure:
    """Survival against eps: FGSM and APGD on the commonly correct images, margin PGD on all; a band from lowest to highest seed.

    A seed with fewer than 30 such images is not drawn, nor is a panel without any; ValueError if that is all of them.
    """
    seeds = by_seed(networks, pair)
    panels = {}
    for attack, shared in CURVES:
        levels = quantities.levels(seeds, attack)
        if found := _curves(networks, pair, attack, shared, levels):
            panels[attack, shared] = levels, {row: np.array(curves) for row, curves in found.items()}
    if not panels:
        raise ValueError(f"{PAIRS[pair]}: no attack has {intervals.FEW} images, so there is nothing to draw")
    fig, axes = plt.subplots(1, len(panels), figsize=(max(3.6, 2.4 * len(panels)), 2.9), sharey=True, squeeze=False)
    for ax, ((attack, shared), (levels, found)) in zip(axes[0], panels.items(), strict=True):
        for row, curves in found.items():
            look = dict(marker=MARKERS[row], ms=3.5, color=PALETTE[row], lw=1.3)
            ax.plot((0, *levels), curves.mean(0), label=DEFENCE_NAMES[row], **look)
            ax.fill_between((0, *levels), curves.min(0), curves.max(0), color=PALETTE[row], alpha=0.2, lw=0)
        images = "images all five get right" if shared else "all images"
        ax.set(title=f"{attack}\n{images}", xlabel="eps (1/255)", xticks=_apart(levels), ylim=(0, 102))
    axes[0, 0].set_ylabel("right after the attack (%)")
    legend_below(fig, ncols=len(ROWS))
    return fig


def _apart(levels: Sequence[int]) -> list[int]:
    """0 and those of the levels whose numbers have room below an axis."""
    ticks = [0]
    for level in levels:
        if level - ticks[-1] >= 0.15 * max(levels):
            ticks.append(level)
    return ticks


def _curves(
    networks: Sequence[Network], pair: tuple[str, str], attack: str, shared: bool, levels: Sequence[int]
) -> dict[str, list[np.ndarray]]:
    """{row: accuracies in % at eps 0 and at `levels`, one array a seed}; no row without any.

    shared: of images that all five networks of a seed get right, of chosen settings alone: with an aligned one these are other images
    """
    common = {seed: quantities.common(mine) for seed, mine in by_seed(networks, pair).items()} if shared else {}
    found: dict[str, list[np.ndarray]] = {}
    for network in of(networks, pair):
        if network.sweep is None or (shared and network.aligned):
            continue
        right = network.sweep["prediction"] == network.sweep["label"]
        mask = common[network.seed] if shared else np.ones_like(right)
        if mask is not None and mask.sum() >= intervals.FEW:
            kept = [right, *(network.sweep[f"{attack}/{level}"] for level in levels)]
            found.setdefault(network.row, []).append(100 * np.array([one[mask].mean() for one in kept]))
    return found


def gaps_table(networks: Sequence[Network], attacks: Mapping[str, float] = scoreboard.CLAIMED) -> pd.DataFrame:
    """GFA minus adversarial training in points, a row a pair, attack and reading; the word of the plan's rule. Of a pair with aligned
    settings of GFA beside the chosen ones the rows of both.

    "at most": what the gap could have been at best on these images; n: images of a seed; "best eps" is read among the eps at which the
    ceiling is as large as the claim, those of "claim in reach". attacks: {name in the sweep: what the paper claims for it, in points}
    """
    rows = {}
    for pair in present(networks):
        for aligned, (attack, claimed) in itertools.product(sides(networks, pair), attacks.items()):
            seeds = by_seed(networks, pair, aligned=aligned)
            gap = scoreboard.gap(seeds, attack, claimed, len(sides(networks, pair)))
            readings = {"paper, 8/255": _reading_row(gap.fixed), "paper, best eps": _reading_row(gap.best, gap.no_power)}
            ceilings = {level: quantities.ceiling(seeds, attack, level) for level in quantities.levels(seeds, attack)}
            reached = [str(level) for level, one in ceilings.items() if one is not None and one.reaches(claimed)]
            readings["paper, best eps"] |= {"claim in reach": f"at {', '.join(reached)} /255" if reached else "at no eps"}
            strict = {"remark": f"only {wording.span(gap.strict_images)} images" if gap.strict_images else "no usable run"}
            if gap.strict:
                strict = {"gap (points)": wording.bounds(gap.strict[1], sign=True), "n": wording.span(gap.strict_images)}
                strict |= {"seeds": str(gap.strict[1].n), "variant": DEFENCE_NAMES[gap.strict[0]], "eps": "8/255"}
            readings["strict, 8/255"] = strict
            if (far := gap.beyond) is not None:
                row = {"gap (points)": wording.bounds(far.estimate, sign=True), "n": wording.span(far.images), "eps": f"{far.level}/255"}
                row |= {"seeds": str(far.estimate.n), "variant": DEFENCE_NAMES[far.variant], "remark": "not read by the rule"}
                readings[f"strict, {far.level}/255"] = row
            for name, row in readings.items():
                title = f"{PAIRS[pair]}{', aligned setting' if aligned else ''}"
                rows[title, attack, name] = dict.fromkeys(GAP_COLUMNS, NOTHING) | row | {"by the rule": gap.verdict}
    index = pd.MultiIndex.from_tuples(list(rows), names=["networks", "attack", "protocol"])
    return pd.DataFrame(list(rows.values()), index=index)


GAP_COLUMNS = ("variant", "gap (points)", "at most", "eps", "n", "seeds", "claim in reach", "by the rule", "remark")


def _reading_row(reading: scoreboard.Reading | None, otherwise: str = "no usable run") -> dict[str, str]:
    if reading is None:
        return {"remark": otherwise}
    n = wording.span(reading.ceiling.images)
    row = {"variant": DEFENCE_NAMES[reading.variant], "eps": f"{reading.level}/255", "n": n, "seeds": str(reading.estimate.n)}
    if reading.ceiling.few:
        return row | {"remark": reading.words()}
    ceiling = wording.number(reading.ceiling.points, sign=True)
    return row | {"gap (points)": wording.bounds(reading.estimate, sign=True), "at most": ceiling}


def kept_words(networks: Sequence[Network]) -> list[str]:
    """What is left in the worst case, strictly, a sentence a pair."""
    said = []
    for pair in present(networks):
        groups = {d: [n for n in of(networks, pair, d) if quantities.worst_case(n) is not None] for d in ROWS}
        left = {DEFENCE_NAMES[d]: shares([quantities.worst_case(n) for n in group]) for d, group in groups.items() if group}
        if not left:
            said.append(f"{PAIRS[pair]}: no network has been attacked by AutoAttack and the adaptive attacks.")
            continue
        images, several = _images_attacked(networks, pair), max(len(group) for group in groups.values())
        shown = ", ".join(f"{name} {words}" for name, words in left.items())
        said.append(f"{PAIRS[pair]}, images kept in the worst case (%): {shown}; n = {images}, {wording.several(several, 'seed')}.")
    return said


def rival_words(networks: Sequence[Network]) -> list[str]:
    """Whether adversarial training is what the plan expects of it at full size, a sentence a pair for which it expects something."""
    said = []
    for pair in present(networks):
        found = rival.of(of(networks, pair))
        if found is not None:
            size = " at reduced scale" if found.reduced else ""
            word = "is below" if found.weak else "reaches"
            said.append(f"{PAIRS[pair]}{size}: adversarial training ({found.words()}) {word} the plan's {rival.BAR}.")
    return said


def _images_attacked(networks: Sequence[Network], pair: tuple[str, str]) -> str:
    return wording.span([len(n.reports["linf"].label) for n in of(networks, pair) if "linf" in n.reports])


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def curves_words(networks: Sequence[Network], pair: tuple[str, str]) -> tuple[str, str]:
    """(caption, alternative text) of `eps_curves`, with the numbers at 8/255 of the panels that are drawn."""
    seeds = by_seed(networks, pair)
    ends, drawn = [], []
    for attack, shared in CURVES:
        found = _curves(networks, pair, attack, shared, [8])
        if not found:
            continue
        drawn.append(f"{attack} on {'common' if shared else 'all'} images")
        ends.append(", ".join(f"{DEFENCE_NAMES[row]} {np.mean([c[1] for c in curves]):.0f} %" for row, curves in found.items()))
    left_out = "" if len(drawn) == len(CURVES) else f" Not drawn: attacks with fewer than {intervals.FEW} images that all five get right."
    caption = (
        f"{PAIRS[pair]}: at 8/255 under {CURVES[-1][0]} {ends[-1]} of the images are right after the attack.{left_out}\n"
        f"{_capital(numbers_of_images(networks, pair).split(': ', 1)[1])} L∞; mean over {wording.several(len(seeds), 'seed')}; "
        "band: from the lowest to the highest seed."
    )
    at_8 = "; ".join(map(": ".join, zip(drawn, ends, strict=True)))
    last = max(level for attack, _ in CURVES for level in quantities.levels(seeds, attack))
    return caption, f"{PAIRS[pair]}: curves of accuracy falling with eps from 0 to {last}/255. At 8/255: {at_8}."

"""Pictures and tables of minimum-norm attacks: claims C3 and C4. They run no model."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .. import intervals, wording
from ..claims import quantities, verdicts
from ..networks import Network, gfa_rows, of, present
from ..scope import DEFENCE_NAMES, PAIRS, ROWS
from ..tables import without
from ..wording import NOTHING, several, spread
from .headline import stacked
from .style import MARKERS, PALETTE, legend_below

TITLES = {"paper/DeepFool": "DeepFool", "paper/EADEN": "EADEN", "paper/EADL1": "EADL1", "paper/CW": "DDN"}
"""The paper's attacks as readers see them; what torchattacks calls CW is DDN here, of the same norm."""
OURS = {"minimum_norm/DDN, scaled logits": "DDN, scaled logits", "minimum_norm/L2 margin": "L2 margin"}
"""Those of ours that the paper's own do not stand for."""


def _with_distances(networks: Sequence[Network]) -> list[Network]:
    return [n for n in networks if quantities.distance_attacks(n)]


def distance_table(networks: Sequence[Network], pair: tuple[str, str]) -> pd.DataFrame:
    """Median L2 distance by defence and attack over the images each network gets right, mean ± sd over seeds; failures are ∞.

    "smallest": per image the least over all minimum-norm attacks; "failures": images that none of them moved over the boundary.
    """
    rows = []
    for defence in ROWS:
        group = _with_distances(of(networks, pair, defence))
        if not group:
            continue
        least = [quantities.strict_distances(n) for n in group]
        row = {"defence": DEFENCE_NAMES[defence], "smallest": spread([float(np.median(values)) for values in least], 3)}
        for key, title in (TITLES | OURS).items():
            medians = [float(np.median(r.outcomes[key].l2[r.clean])) for n in group if key in (r := n.reports["l2"]).outcomes]
            row[title] = spread(medians, 3)
        row["failures"] = f"{sum(int(np.isinf(v).sum()) for v in least)} of {sum(len(v) for v in least)}"
        rows.append(row | {"seeds": len(group), "n": wording.span([len(values) for values in least])})
    return pd.DataFrame(rows).set_index("defence") if rows else pd.DataFrame()


def distances_table(networks: Sequence[Network], pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """`distance_table` of all pairs, without columns of attacks that none of them met."""
    return without(stacked(distance_table, networks, pairs), **dict.fromkeys(OURS.values(), NOTHING))


def ratio_table(networks: Sequence[Network]) -> pd.DataFrame:
    """How many times larger GFA's distances are than those of plain and of adversarial training, and the word of the plan's rule.

    With the 95 % interval over seeds and images; n: images of a seed, those of the network that has fewer.
    """
    rows = {}
    for pair in present(networks):
        for attack in ("paper/DeepFool", "paper/EADEN"):
            for name, variant, seeds in gfa_rows(networks, pair):
                against = {"standard": "to plain (×)", "pgd-at": "to PGD-7 (×)"}
                paper = {other: quantities.paper_ratio_estimate(seeds, variant, attack, other) for other in against}
                strict = {other: quantities.strict_ratio_estimate(seeds, variant, other) for other in against}
                word = verdicts.ratio(*(quantities.with_power(one["standard"]) for one in (paper, strict)))
                for protocol, found in (("paper", paper), ("strict", strict)):
                    row = {title: wording.bounds(found[other][0], 2) if found[other] else NOTHING for other, title in against.items()}
                    images, there = [n for one in found.values() if one for n in one[1]], [one[0].n for one in found.values() if one]
                    row |= {"n": wording.span(images) if images else NOTHING, "seeds": wording.span(there) if there else NOTHING}
                    rows[PAIRS[pair], TITLES[attack], DEFENCE_NAMES[name], protocol] = row | {"by the rule": word}
    index = pd.MultiIndex.from_tuples(list(rows), names=["networks", "attack", "variant", "protocol"])
    return pd.DataFrame(list(rows.values()), index=index)


def distances_words(networks: Sequence[Network]) -> list[str]:
    """Medians of the smallest distances, a sentence a pair."""
    said = []
    for pair in _measured_pairs(networks):
        groups = {d: _with_distances(of(networks, pair, d)) for d in ROWS}
        medians = {d: [float(np.median(quantities.strict_distances(n))) for n in group] for d, group in groups.items() if group}
        shown = ", ".join(f"{DEFENCE_NAMES[d]} {spread(values, 2)}" for d, values in medians.items())
        n = wording.span([len(quantities.strict_distances(net)) for group in groups.values() for net in group])
        seeds = max(map(len, groups.values()))
        said.append(f"{PAIRS[pair]}, median smallest L2 distance: {shown}; n = {n} images right, {several(seeds, 'seed')}.")
    return said


def _measured_pairs(networks: Sequence[Network]) -> list[tuple[str, str]]:
    return [pair for pair in present(networks) if _with_distances(of(networks, pair))]


def _drawn(networks: Sequence[Network], pair: tuple[str, str], defence: str) -> list[Network]:
    """Networks of enough images for a curve."""
    return [n for n in _with_distances(of(networks, pair, defence)) if len(quantities.strict_distances(n)) >= intervals.FEW]


def drawn_pairs(networks: Sequence[Network]) -> list[tuple[str, str]]:
    """The pairs of which `distance_curves` has something to draw."""
    return [pair for pair in _measured_pairs(networks) if any(_drawn(networks, pair, d) for d in ROWS)]


def curves_words(networks: Sequence[Network]) -> tuple[str, str]:
    """(caption, alternative text) of `distance_curves`."""
    thin = [
        f"{PAIRS[pair]}, {DEFENCE_NAMES[d]} ({left} of {len(all_of)} seeds)"
        for pair in _measured_pairs(networks)
        for d in ROWS
        if (all_of := _with_distances(of(networks, pair, d))) and (left := len(all_of) - len(_drawn(networks, pair, d)))
    ]
    few = f" Not drawn, since fewer than {intervals.FEW} images are right: {'; '.join(thin)}." if thin else ""
    caption = (
        "Share of the images still right when the smallest perturbation that any minimum-norm attack found has the length on the axis; "
        f"a line a seed.{few}\n" + " ".join(distances_words(networks))
    )
    return caption, "Falling curves, one panel a pair of network and data. " + " ".join(distances_words(networks))


def distance_curves(networks: Sequence[Network]) -> Figure:
    """Share of the images still right when the smallest L2 perturbation found has this length; one line a seed. ValueError if
    `drawn_pairs` has none."""
    pairs = drawn_pairs(networks)
    if not pairs:
        raise ValueError(f"no network has distances of {intervals.FEW} images, so there is nothing to draw")
    fig, axes = plt.subplots(1, len(pairs), figsize=(max(3.6, 2.4 * len(pairs)), 2.9), sharey=True, squeeze=False)
    for ax, pair in zip(axes[0], pairs, strict=True):
        for defence in ROWS:
            for number, network in enumerate(_drawn(networks, pair, defence)):
                least = np.sort(quantities.strict_distances(network))
                share = 100 * (1 - np.arange(1, len(least) + 1) / len(least))
                finite = np.isfinite(least)
                look = dict(color=PALETTE[defence], lw=1.2, marker=MARKERS[defence], ms=3.5, markevery=max(1, len(least) // 6))
                label = DEFENCE_NAMES[defence] if number == 0 else None
                ax.step(np.r_[0, least[finite]], np.r_[100, share[finite]], where="post", label=label, **look)
        n = sorted({len(net.reports["l2"].label) for net in _with_distances(of(networks, pair))})
        title = f"{PAIRS[pair]}\nfirst {' and '.join(map(str, n))} test images"
        ax.set(title=title, xlabel="L2 length (image units)", xlim=(0, None), ylim=(0, 101))
    axes[0, 0].set_ylabel("not yet wrong (% of those right)")
    legend_below(fig, ncols=len(ROWS))
    return fig


def boundary_images(found: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]], x) -> Figure:
    """One row a network: the first image of x (N, C, H, W) that all get right, and what `nearest` found for it."""
    distances = np.array([[far for _, far in attacks.values()] for attacks in found.values()])
    index = int(np.flatnonzero(~np.isnan(distances).any((0, 1)))[0])
    titles = ["clean", *next(iter(found.values()))]
    fig, axes = plt.subplots(len(found), len(titles), figsize=(1.75 * len(titles) + 0.4, 1.75 * len(found)), squeeze=False)
    for line, (name, attacks) in zip(axes, found.items(), strict=True):
        shown = [(x[index].cpu().numpy(), 0.0), *((images[index], far[index]) for images, far in attacks.values())]
        for ax, title, (image, far) in zip(line, titles, shown, strict=True):
            ax.imshow(image.transpose(1, 2, 0).squeeze(), cmap="gray", vmin=0, vmax=1)
            said = "" if title == "clean" else f", {far:.2f}" if np.isfinite(far) else ", none found"
            ax.set_title(f"{title}{said}", fontsize=9)
            ax.set(xticks=[], yticks=[])
        line[0].set_ylabel(name.replace(", ", "\n"), fontsize=9)
    return fig

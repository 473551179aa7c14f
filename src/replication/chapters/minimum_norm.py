"""Pictures and tables of minimum-norm attacks: claims C3 and C4. They run no model."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .. import scope, wording
from ..claims import quantities, scoreboard, verdicts
from ..estimates import Estimate
from ..networks import Network, by_seed, of, present
from ..scope import DEFENCE_NAMES, DEFENCES, PAIRS
from ..wording import NOTHING, spread
from .style import PALETTE

TITLES = {"paper/DeepFool": "DeepFool", "paper/EADEN": "EADEN", "paper/EADL1": "EADL1", "paper/CW": "DDN"}
"""The attacks as readers see them; what torchattacks calls CW is DDN here, of the same norm."""


def _with_distances(networks: Sequence[Network]) -> list[Network]:
    return [n for n in networks if quantities.distance_attacks(n)]


def distance_table(networks: Sequence[Network], pair: tuple[str, str]) -> pd.DataFrame:
    """Median L2 distance by defence and attack over the images each network gets right, mean ± sd over seeds; failures are ∞.

    "smallest": per image the least over the four attacks; "failures": images that none of them moved over the boundary.
    """
    rows = []
    for defence in DEFENCES:
        group = _with_distances(of(networks, pair, defence))
        if not group:
            continue
        row = {PAIRS[pair]: DEFENCE_NAMES[defence]}
        for key, title in TITLES.items():
            row[title] = spread([float(np.median(n.reports["l2"].outcomes[key].l2[n.reports["l2"].clean])) for n in group], 3)
        least = [quantities.strict_distances(n) for n in group]
        row["smallest"] = spread([float(np.median(values)) for values in least], 3)
        row["failures"] = f"{sum(int(np.isinf(v).sum()) for v in least)} of {sum(len(v) for v in least)}"
        rows.append(row | {"seeds": len(group)})
    return pd.DataFrame(rows).set_index(PAIRS[pair]) if rows else pd.DataFrame()


def ratio_table(networks: Sequence[Network]) -> pd.DataFrame:
    """How many times larger GFA's distances are than those of plain and of adversarial training, and the word of the plan's rule.

    With the 95 % interval over seeds and images; n: images of a seed, those of the network that has fewer.
    """
    rows = []
    for pair in present(networks):
        seeds = by_seed(networks, pair)
        for attack in ("paper/DeepFool", "paper/EADEN"):
            for variant in scope.VARIANTS:
                row = {"networks": PAIRS[pair], "attack": TITLES[attack], "variant": DEFENCE_NAMES[variant]}
                against = {"standard": "plain", "pgd-at": "PGD-7"}
                paper = {name: quantities.paper_ratio_estimate(seeds, variant, attack, name) for name in against}
                strict = {name: quantities.strict_ratio_estimate(seeds, variant, name) for name in against}
                for protocol, found in (("paper's protocol", paper), ("strict", strict)):
                    row |= {f"{protocol}, to {title}": _words(found[name]) for name, title in against.items()}
                row["by the rule"] = verdicts.ratio(*(one["standard"] and one["standard"][0] for one in (paper, strict)))
                rows.append(row)
    return pd.DataFrame(rows).set_index(["networks", "attack", "variant"])


def _words(found: tuple[Estimate, tuple[int, ...]] | None) -> str:
    return f"{wording.interval(found[0], '×', 2)}, n {scoreboard.span(found[1])}" if found else NOTHING


def distance_curves(networks: Sequence[Network]) -> Figure:
    """Share of the images still right when the smallest L2 perturbation found has this length; one line a seed."""
    pairs = [pair for pair in present(networks) if _with_distances(of(networks, pair))]
    fig, axes = plt.subplots(1, len(pairs), figsize=(4 * len(pairs), 3.6), sharey=True, squeeze=False)
    for ax, pair in zip(axes[0], pairs, strict=True):
        for defence in DEFENCES:
            for number, network in enumerate(_with_distances(of(networks, pair, defence))):
                least = np.sort(quantities.strict_distances(network))
                share = 100 * (1 - np.arange(1, len(least) + 1) / len(least))
                finite = np.isfinite(least)
                label = DEFENCE_NAMES[defence] if number == 0 else None
                ax.step(np.r_[0, least[finite]], np.r_[100, share[finite]], where="post", color=PALETTE[defence], lw=1.3, label=label)
        n = sorted({len(net.reports["l2"].label) for net in _with_distances(of(networks, pair))})
        title = f"{PAIRS[pair]}\nfirst {' and '.join(map(str, n))} test images"
        ax.set(title=title, xlabel="L2 length (image units)", xlim=(0, None), ylim=(0, 101))
    axes[0, 0].set_ylabel("not yet wrong (% of those right)")
    if axes[0, -1].lines:
        axes[0, -1].legend(fontsize=8)
    return fig


def boundary_images(found: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]], x) -> Figure:
    """One row a network: the first image of x (N, C, H, W) that all get right, and what `nearest` found for it."""
    distances = np.array([[far for _, far in attacks.values()] for attacks in found.values()])
    index = int(np.flatnonzero(~np.isnan(distances).any((0, 1)))[0])
    titles = ["clean", *next(iter(found.values()))]
    fig, axes = plt.subplots(len(found), len(titles), figsize=(2 * len(titles), 1.9 * len(found)), squeeze=False)
    for line, (name, attacks) in zip(axes, found.items(), strict=True):
        shown = [(x[index].cpu().numpy(), 0.0), *((images[index], far[index]) for images, far in attacks.values())]
        for ax, title, (image, far) in zip(line, titles, shown, strict=True):
            ax.imshow(image.transpose(1, 2, 0).squeeze(), cmap="gray", vmin=0, vmax=1)
            said = "" if title == "clean" else f", {far:.2f}" if np.isfinite(far) else ", none found"
            ax.set_title(f"{title}{said}", fontsize=9)
            ax.set(xticks=[], yticks=[])
        line[0].set_ylabel(name.replace(", ", "\n"), fontsize=9)
    return fig

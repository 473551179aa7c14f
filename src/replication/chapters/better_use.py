"""Other uses of the idea: clean against worst-case accuracy, beside GNR and adversarial training. Nothing here runs a model."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from deepdefense.storage import paths

from .. import full_search, records
from ..claims import quantities, use_quantities
from ..figures import COLUMN
from ..full_search import Setting
from ..networks import Network
from ..scope import CNN, DEFENCE_NAMES
from ..wording import NOTHING, number
from .style import MARKERS, PALETTE, legend_below

READS = ("better_use", "full_search")  # folders of data/results/, for the workflow
BESIDE = ("pgd-at", "trades", "gnr", "standard")
WANTED = 5  # candidates, three for E3 and two for E4
SETTINGS = 5  # of each in workflow/grids/better_use.csv, each with seed 0
SEARCHED = WANTED * (SETTINGS + full_search.LOOKS)  # runs of that search: the first two of each get the second seed


def shown(networks: Sequence[Network]) -> list[Network]:
    """The candidates and what they are compared with."""
    return [one for one in networks if use_quantities.kind(one) or one.defence in BESIDE]


def searched(root: Path | None = None) -> list[Network]:
    """The runs of the search: CNN on CIFAR-10, seeds 0 and 10, in data/results/full_search and better_use."""
    root = root or paths.results_root()
    there = [root / name for name in READS if (root / name).is_dir()]
    found = [Network(record, where) for where in there for record in records.load_records(where, "training")]
    found = list({one.name: one for one in found}.values())
    return [one for one in shown(found) if one.pair == CNN and one.seed in full_search.SEEDS]


def present(networks: Sequence[Network], search: Sequence[Network]) -> str:
    """Which runs there are, of how many."""
    judged = [one for one in networks if use_quantities.judged(one)]
    kinds = {use_quantities.kind(one) for one in judged} - {None}
    mine = sum(use_quantities.kind(one) is not None for one in search)
    return (
        f"{len(kinds)} of {WANTED} candidates have been attacked at full size "
        f"({sum(use_quantities.kind(n) is not None for n in judged)} networks); "
        f"of their search there are {mine} runs (it has {SEARCHED})."
    )


def _last(network: Network) -> tuple[float, float]:
    """Clean and robust accuracy on validation images after the last epoch, in %."""
    row = network.record["history"][-1]
    return 100 * row["val_accuracy"], 100 * row["val_robust_accuracy"]


Point = tuple[Network, float, float]  # a network, its clean accuracy, its robust one; in %


def validation_points(networks: Sequence[Network]) -> list[Point]:
    """Clean and robust accuracy on validation images of every network that finished."""
    return [(one, *_last(one)) for one in networks if one.record["status"] == "finished"]


def worst_case_points(networks: Sequence[Network]) -> list[Point]:
    """Clean accuracy on the whole test set and the worst case over AutoAttack and the adaptive attacks of every network with both."""
    judged = [one for one in shown(networks) if use_quantities.judged(one)]
    return [(one, 100 * one.clean, 100 * float(quantities.worst_case(one).mean())) for one in judged]


def points_words(points: Sequence[Point]) -> str:
    """The most robust network of each defence, in a sentence."""
    best: dict[str, tuple[float, float]] = {}
    for one, clean, robust in points:
        best[use_quantities.name_of(one.config)] = max(best.get(use_quantities.name_of(one.config), (-1.0, 0.0)), (robust, clean))
    said = [f"{name} {number(robust)} at {number(clean)} clean" for name, (robust, clean) in best.items()]
    return f"Most robust network of each (%): {', '.join(said)}."


def plane(points: Sequence[Point], above: str, along: str) -> Figure:
    """Clean against robust accuracy, one mark a network; above, along: what the axes say."""
    fig, ax = plt.subplots(figsize=(COLUMN, 4.8))
    for name in dict.fromkeys(use_quantities.name_of(one.config) for one, _, _ in points):
        group = [(one, x, y) for one, x, y in points if use_quantities.name_of(one.config) == name]
        defence = group[0][0].defence
        xs, ys = np.array([x for _, x, _ in group]), np.array([y for _, _, y in group])
        marker = "P" if name.endswith("−a") else MARKERS[defence]
        ax.scatter(xs, ys, marker=marker, color=PALETTE[defence], s=60, edgecolor="white", linewidth=0.6, label=name, zorder=3)
    ax.set(xlabel=along, ylabel=above, ylim=(-2, None))
    legend_below(fig, ncols=3)
    return fig


def search_table(search: Sequence[Network]) -> pd.DataFrame:
    """A row a setting: means over the seeds of the search on validation images, and whether the plan's rule takes it.

    The rule: the highest robust accuracy among those of a kind with at least the clean accuracy of the adversarial training that it takes;
    if none has it, the highest mean of both. A setting of one seed, or that collapsed or diverged with one, is out.
    """
    kinds: dict[str, list[Setting]] = {}
    for setting in full_search.settings_of(one.record for one in search):
        kinds.setdefault(use_quantities.name_of(vars(setting.config)), []).append(setting)
    bar = full_search.first(kinds.get(DEFENCE_NAMES["pgd-at"], []), None)
    taken = {name: full_search.first(some, None if bar in some else bar.clean) for name, some in kinds.items() if bar}
    rows = [
        {
            "defence": name,
            "setting": _settings(setting),
            "seeds": len(setting.trials),
            "clean (%)": number(100 * setting.clean) if setting.candidate else NOTHING,
            "robust (%)": number(100 * setting.robust) if setting.candidate else NOTHING,
            "taken": "yes" if setting is taken.get(name) else "",
        }
        for name, some in kinds.items()
        for setting in some
    ]
    return pd.DataFrame(rows).set_index(["defence", "setting"]) if rows else pd.DataFrame()


def _settings(setting: Setting) -> str:
    config = setting.config
    options = {k: v for k, v in config.options.items() if k not in ("form", "eps", "alpha")}
    said = [f"λ {config.lam:g}"] if config.lam else []
    said += [f"{key} {value}" for key, value in options.items()]
    return ", ".join(said + ([f"average {config.ema:g}"] if config.ema else [])) or "as it is"


def smoke_table(networks: Sequence[Network]) -> pd.DataFrame:
    """A row a network: clean and robust accuracy and alignment on its validation images."""
    rows = []
    for one in networks:
        clean, robust = _last(one)
        aligned = one.record["history"][-1]["val_alignment"]
        rows.append(
            {
                "defence": use_quantities.name_of(one.config),
                "clean (%)": number(clean),
                "robust (%)": number(robust),
                "alignment": number(aligned, 2, sign=True),
            }
        )
    return pd.DataFrame(rows).set_index("defence")

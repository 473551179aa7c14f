"""The search at full size as its page shows it: every setting with its seeds, the map of both accuracies, what is chosen and why."""

import math
from collections.abc import Sequence

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from .. import scope
from ..full_search import DEFENCES, Pair, Setting, Taken, pick
from ..scope import DEFENCE_NAMES, PAIRS
from ..wording import number
from .style import PALETTE

MARKS = {"standard": "o", "pgd-at": "s", "trades": "D", "gnr": "v", "gfa-first": "^", "gfa-deep": "P"}


def pairs(settings: Sequence[Setting]) -> list[Pair]:
    """The pairs that have runs, in the order of the book."""
    return [pair for pair in PAIRS if pick(settings, pair)]


def names(settings: Sequence[Setting]) -> list[str]:
    """The names of all runs."""
    return [trial.name for setting in settings for trial in setting.trials.values()]


def settings_table(settings: Sequence[Setting]) -> pd.DataFrame:
    """One row a setting: accuracies on the validation images in %, alignment, the seeds that it has and how they ended."""
    rows = []
    for one in settings:
        ended = sorted({trial.status for trial in one.trials.values()})
        seeds = ", ".join(map(str, one.trials))
        figures = {"clean (%)": 100 * one.clean, "robust (%)": 100 * one.robust, "alignment": one.alignment}
        row = {"defence": DEFENCE_NAMES[one.defence], "setting": one.words, "seeds": seeds, "ended": ", ".join(ended)}
        rows.append(row | {name: value if math.isfinite(value) else None for name, value in figures.items()})
    return pd.DataFrame(rows).set_index(["defence", "setting"])


def accuracy_map(settings: Sequence[Setting], choices: Sequence[Taken]) -> tuple[Figure, dict[str, str]]:
    """Robust against clean accuracy, one mark a setting, rings round what is chosen; and the words of each mark."""
    fig, ax = plt.subplots(figsize=(6.6, 3.8))
    points = {}
    chosen = {one.setting.config.name() for one in choices if one.setting is not None}
    for defence in ("standard", *DEFENCES):
        mine = [one for one in settings if one.defence == defence and math.isfinite(one.clean)]
        for place, one in enumerate(mine):
            label = DEFENCE_NAMES[defence] if place == 0 else None
            (mark,) = ax.plot(100 * one.clean, 100 * one.robust, MARKS[defence], ms=6, color=PALETTE[defence], label=label, alpha=0.9)
            mark.set_gid(f"full-{one.pair[0]}-{one.pair[1]}-{defence}-{place}")
            points[mark.get_gid()] = (
                f"{DEFENCE_NAMES[defence]}, {one.words}: {100 * one.clean:.1f} % clean, {100 * one.robust:.1f} % robust"
            )
            if one.config.name() in chosen:
                ax.plot(100 * one.clean, 100 * one.robust, "o", ms=13, mfc="none", mec="black", mew=1)
    bar = next((one.setting.clean for one in choices if one.defence == "pgd-at" and one.setting is not None), None)
    if bar is not None:
        ax.axvline(100 * bar, color="grey", lw=1, ls=":")
    ax.set(xlabel="clean accuracy (%), validation images", ylabel="robust accuracy (%), margin PGD-10, 8/255")
    ax.legend(loc="best")
    return fig, points


def choice_sentences(choices: Sequence[Taken]) -> list[str]:
    """What is taken for each defence of a pair, and why, in a sentence each."""
    said = []
    for one in choices:
        if one.setting is None:
            said.append(f"{DEFENCE_NAMES[one.defence]}: {one.reason}.")
            continue
        aligned = number(one.setting.alignment, 2, sign=True)
        figures = f"{100 * one.setting.clean:.1f} % clean, {100 * one.setting.robust:.1f} % robust, alignment {aligned}"
        beside = f" Beside it, because it did not take hold: {one.aligned.words}." if one.aligned is not None else ""
        said.append(f"{DEFENCE_NAMES[one.defence]}: {one.setting.words} ({figures}), the {one.reason.removeprefix('the ')}.{beside}")
    return said


def in_short(settings: Sequence[Setting], choices: Sequence[Taken]) -> list[str]:
    """The page's answer, a sentence a pair: what GFA reaches at adversarial training's clean accuracy, beside the others."""
    said = []
    for pair in pairs(settings):
        mine = {one.defence: one.setting for one in choices if one.pair == pair and one.setting is not None}
        plain = pick(settings, pair, "standard")
        order = sorted(mine.values(), key=lambda one: -one.robust)
        figures = ", ".join(f"{DEFENCE_NAMES[one.defence]} {100 * one.robust:.1f} % at {100 * one.clean:.1f} % clean" for one in order)
        base = f", plain training {100 * plain[0].robust:.1f} % at {100 * plain[0].clean:.1f} %" if plain else ""
        missing = [DEFENCE_NAMES[name] for name in DEFENCES if name not in mine]
        open_yet = f" Not chosen yet: {', '.join(missing)}." if missing else ""
        said.append(f"{scope.PAIRS[pair]}, robust accuracy of what is chosen so far: {figures or 'nothing'}{base}.{open_yet}")
    return said

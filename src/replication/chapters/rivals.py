"""The rivals that reviewers named, and GFA, beside GNR at equal clean accuracy; all at full size, from the records of the search."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from deepdefense.storage import files, paths

from .. import full_search
from ..figures import COLUMN
from ..full_search import Setting
from ..scope import DEFENCE_NAMES, PAIRS, VARIANTS
from ..wording import NOTHING, number
from .style import MARKERS, PALETTE, legend_below

READS = ("rivals", "full_search")  # folders of data/results/, for the workflow
RIVALS = ("gradalign", "cure", "trades", "mart")
EPOCH_SECONDS = 17  # of plain training of the CNN on CIFAR-10, 45,000 images, one core (see the plan)
NOT_YET = "not run yet"


def rival_settings(root: Path | None = None) -> list[Setting]:
    """The settings of the rivals at full size, from data/results/rivals and, for TRADES, the search; none if there are none yet."""
    root = root or paths.results_root()
    found = [files.read_json(path) for name in ("rivals", "full_search") for path in sorted((root / name).glob("*.json"))]
    records = {r["name"]: r for r in found if r.get("kind") == "training" and r["config"]["objective"] in RIVALS}
    return full_search.settings_of(list(records.values()))


def missing(rivals: Sequence[Setting]) -> str:
    """Which of the rivals have no run at full size yet."""
    there = {s.defence for s in rivals}
    lines = [f"{DEFENCE_NAMES[name]}: {NOT_YET}" for name in RIVALS if name not in there]
    return "\n".join(lines) or "all four have been run"


def curve(settings: Sequence[Setting], pair: tuple[str, str], *defences: str) -> list[tuple[float, float]]:
    """(clean, robust) of the finished settings of these defences, by clean accuracy; of equal ones the better.

    Plain training does not stand for GNR at λ 0 (see the plan): nothing is read beyond the smallest λ that was run.
    """
    points: dict[float, float] = {}
    for setting in full_search.pick(settings, pair, *defences):
        if not setting.lost:
            points[setting.clean] = max(points.get(setting.clean, 0.0), setting.robust)
    return sorted(points.items())


def at_clean(points: Sequence[tuple[float, float]], clean: float) -> float | None:
    """Robust accuracy on the broken line through `points` (clean, robust) at this clean accuracy; None outside its range."""
    if len(points) < 2 or not points[0][0] <= clean <= points[-1][0]:
        return None
    return float(np.interp(clean, *zip(*points, strict=True)))


def lead(settings: Sequence[Setting], other: Setting, defence: str = "gnr") -> float | None:
    """Robust accuracy of `defence` at the clean accuracy of `other` minus that of `other`; None where they cannot be compared."""
    reached = None if other.lost else at_clean(curve(settings, other.pair, defence), other.clean)
    return None if reached is None else reached - other.robust


def compared(settings: Sequence[Setting]) -> list[tuple[str, str]]:
    """The pairs that have settings of GNR and of GFA at full size."""
    kinds = {pair: {s.defence for s in full_search.pick(settings, pair) if not s.lost} for pair in PAIRS}
    return [pair for pair, names in kinds.items() if "gnr" in names and names & set(VARIANTS)]


def leads_table(settings: Sequence[Setting]) -> pd.DataFrame:
    """GNR minus GFA in robust accuracy at GFA's clean accuracy, a row a setting of GFA within GNR's range."""
    rows = []
    for pair in compared(settings):
        for setting in full_search.pick(settings, pair, *VARIANTS):
            gap = lead(settings, setting)
            if gap is not None:
                rows.append([PAIRS[pair], DEFENCE_NAMES[setting.defence], setting.words, len(setting.trials), number(100 * gap, sign=True)])
    columns = ["networks", "defence", "setting", "seeds", "GNR minus GFA (points)"]
    return pd.DataFrame(rows, columns=columns).set_index(columns[:2])


def setting_words(setting: Setting) -> str:
    """What a setting sets, with the weights and lengths that rivals have of their own."""
    c = setting.config
    own = [f"λ {c.lam:g}"] if c.objective in ("gradalign", "cure") else []
    own += [f"{name.replace('attack_start', 'attack from')} {c.options[name]}" for name in ("h", "attack_start") if name in c.options]
    return ", ".join([*own, *([] if own and setting.words == "as it is" else [setting.words])])


def rivals_table(rivals: Sequence[Setting], settings: Sequence[Setting]) -> pd.DataFrame:
    """One row a rival and setting (GFA's too): validation accuracies, and what GNR keeps at the same clean accuracy."""
    rows = []
    for pair in PAIRS:
        mine = [s for s in (*rivals, *full_search.pick(settings, pair, *VARIANTS, "pgd-at")) if s.pair == pair]
        for setting in sorted(mine, key=lambda s: list(DEFENCE_NAMES).index(s.defence)):
            ended = "" if not setting.lost else ", ".join(sorted({t.status for t in setting.trials.values()} - {"finished"}))
            gnr = None if setting.lost else at_clean(curve(settings, pair, "gnr"), setting.clean)
            rows.append({
                "networks": PAIRS[pair],
                "defence": DEFENCE_NAMES[setting.defence],
                "setting": setting_words(setting),
                "seeds": len(setting.trials),
                "ended": ended or "finished",
                "clean (%)": number(100 * setting.clean) if not ended else NOTHING,
                "robust (%)": number(100 * setting.robust) if not ended else NOTHING,
                "GNR's at that clean (%)": NOTHING if gnr is None else number(100 * gnr),
            })  # fmt: skip
    return pd.DataFrame(rows).set_index(["networks", "defence", "setting"]) if rows else pd.DataFrame()


def tradeoff(settings: Sequence[Setting], rivals: Sequence[Setting]) -> Figure:
    """Clean against robust accuracy of every finished setting at full size, a panel a pair, with the line of GNR."""
    pairs = [pair for pair in PAIRS if full_search.pick(settings, pair)]
    fig, axes = plt.subplots(1, len(pairs), figsize=(min(COLUMN, 3.65 * len(pairs)), 4.2), squeeze=False)
    for ax, pair in zip(axes.flat, pairs, strict=True):
        mine = {s.config.name(): s for s in (*full_search.pick(settings, pair), *rivals) if s.pair == pair and not s.lost}
        line = curve(settings, pair, "gnr")
        ax.plot([100 * c for c, _ in line], [100 * r for _, r in line], color=PALETTE["gnr"], lw=1)
        for name in DEFENCE_NAMES:
            some = [s for s in mine.values() if s.defence == name]
            if some:
                x, y = [100 * s.clean for s in some], [100 * s.robust for s in some]
                ax.plot(x, y, MARKERS[name], ms=6, color=PALETTE[name], mec="white", mew=0.5, label=DEFENCE_NAMES[name])
        ax.set(title=PAIRS[pair], xlabel="clean accuracy (%)")
    axes[0, 0].set_ylabel("robust accuracy (%)")
    legend_below(fig, ncols=4)
    return fig


def ahead_words(settings: Sequence[Setting]) -> str:
    """In how many settings of GFA GNR keeps more at equal clean accuracy, pair by pair, and by how much."""
    said = []
    for pair in compared(settings):
        gaps = [gap for s in full_search.pick(settings, pair, *VARIANTS) if (gap := lead(settings, s)) is not None]
        if gaps:
            ends = f"GNR minus GFA {number(100 * min(gaps), sign=True)} to {number(100 * max(gaps), sign=True)} points"
            more = len([s for s in full_search.pick(settings, pair, *VARIANTS) if not s.lost]) - len(gaps)
            outside = f"; {more} more lie outside the range of GNR's clean accuracies" if more else ""
            said.append(f"in {sum(gap > 0 for gap in gaps)} of {len(gaps)} settings of {PAIRS[pair]} ({ends}{outside})")
    if not said:
        return "No setting of GFA can be compared with GNR at equal clean accuracy yet."
    return f"At equal clean accuracy GNR keeps more images than GFA {', '.join(said)}."


def planned(grid: Path | None = None) -> pd.DataFrame:
    """The runs of workflow/grids/rivals.csv, a row a setting: objective, where it starts, how many seeds."""
    table = pd.read_csv(grid or paths.root() / "workflow" / "grids" / "rivals.csv", dtype=str)
    return table.assign(seeds=table["seed"].str.split().map(len))[["objective", "start", "seeds"]]


def cost_table(hours: Mapping[str, float], passes: Mapping[str, float]) -> pd.DataFrame:
    """A row a rival: what a step costs, beside plain training's, and the hours of one core that its planned runs take."""
    rows = [[DEFENCE_NAMES[name], passes[name], passes[name] / passes["standard"], spent] for name, spent in hours.items()]
    columns = ["rival", "forward passes a step", "times plain training's", "core-hours, all planned seeds"]
    return pd.DataFrame(rows, columns=columns).set_index("rival")


def core_hours(runs: pd.DataFrame, passes: Mapping[str, float], epochs: int) -> dict[str, float]:
    """{objective: hours of one core} for the training of `planned` runs of the CNN on CIFAR-10, epochs each.

    passes: {objective: forward passes of a step}, plain training's ("standard") among them, whose epoch took `EPOCH_SECONDS`. A run that
    starts from a plainly trained network has that one's training too.
    """
    hours: dict[str, float] = {}
    for row in runs.itertuples():
        seconds = EPOCH_SECONDS * (passes[row.objective] / passes["standard"] + (row.start == "plain"))
        hours[row.objective] = hours.get(row.objective, 0.0) + row.seeds * epochs * seconds / 3600
    return hours

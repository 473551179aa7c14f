"""Pictures and tables of one evaluation report, and of several side by side. They read reports and never run a
model."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from deepdefense.evaluation.report import Report
from deepdefense.masking.check import MaskingReport

from ..figures import COLUMN
from ..scope import NORM_NAMES
from ..tables import without
from ..wording import NOTHING, number


def _percent(entry: Mapping) -> str:
    """Accuracy in % with its 95 % interval."""
    return f"{100 * entry['accuracy']:.1f} [{100 * entry['low']:.1f}, {100 * entry['high']:.1f}]"


def two_lines(summary: Mapping) -> str:
    """The result in two lines: what was measured, how, and on how many images."""
    lines = [
        f"{summary['n']} images, {NORM_NAMES[summary['norm']]} eps = {summary['robustbench']['eps']}, seed {summary['seed']}",
        f"clean accuracy {_percent(summary['clean'])} %, robust accuracy {_percent(summary['worst_case'])} % "
        f"(per-image worst case over {len(summary['attacks'])} attacks; 95 % intervals over images)",
    ]
    if not summary["deterministic"]:
        lines.append("THE MODEL IS NOT DETERMINISTIC: every number is one draw.")
    return "\n".join(lines)


def suites_table(summary: Mapping) -> pd.DataFrame:
    """Accuracy in % with 95 % intervals: clean, worst case within each suite, worst case over all."""
    rows = {"clean": summary["clean"], **summary["suites"], "worst case over all": summary["worst_case"]}
    return pd.DataFrame({"suite": rows.keys(), "accuracy (%) [95 %]": map(_percent, rows.values())})


def examples_table(examples: Mapping[str, tuple[Report, MaskingReport | None]]) -> pd.DataFrame:
    """One row a defence: clean accuracy, what the gradient suite leaves, what is left in the worst case, and which checks fail."""
    rows = []
    for name, (report, found) in examples.items():
        summary = report.summary()
        failed = "not made" if found is None else ", ".join(map(str, found.failed)) or "none"
        rows.append(
            {
                "defence": name,
                "n": summary["n"],
                "clean (%) [95 %]": _percent(summary["clean"]),
                "gradient attacks (%) [95 %]": _percent(summary["suites"]["gradient"]),
                "worst case (%) [95 %]": _percent(summary["worst_case"]),
                "checks that fail": failed,
            }
        )
    return pd.DataFrame(rows).set_index("defence")


def conclusion(name: str, report: Report, found: MaskingReport) -> str:
    """What became of a defence, in a sentence: did attacks without its gradient find more, and do the checks say so?"""
    summary = report.summary()
    seemed, left = (round(100 * row["accuracy"], 1) for row in (summary["suites"]["gradient"], summary["worst_case"]))
    if found.failed:
        more = (
            f"seems to keep {seemed} % of {summary['n']} images and keeps at most {left} %" if left < seemed else f"keeps at most {left} %"
        )
        return f"{name}: masked. It {more}; {len(found.failed)} of {len(found.checks)} checks fail, so even that is not to be believed."
    made = len(found.made) - len(found.powerless)
    kept = f"It keeps {left} % of {summary['n']} images, {seemed} % under gradient attacks"
    return f"{name}: no sign of masking. {kept}; none of the {made} checks with power fails."


def report_table(summary: Mapping) -> pd.DataFrame:
    """One row an attack: images it was given, images it broke, accuracy after it, the distance if it looks for one, its cost per image."""
    rows = []
    for key, row in summary["attacks"].items():
        suite, attack = key.split("/")
        given, median = row["attacked"], (row["distance"] or {}).get("median")
        rows.append(
            {
                "suite": suite,
                "attack": attack,
                "images": given,
                "broken": row["succeeded"],
                "accuracy (%) [95 %]": _percent(row),
                "median distance": NOTHING if row["bounded"] else "∞" if median is None else f"{median:.3g}",
                "ms an image": round(1000 * row["seconds_per_image"], 2) if given else "",
                "forward passes": round(row["forward_passes_per_image"], 1) if given else "",
                "backward passes": round(row["backward_passes_per_image"], 1) if given else "",
            }
        )
    return without(pd.DataFrame(rows), **{"median distance": NOTHING})


def silent_words(report: Report) -> str:
    """How many images each kind of attack alone breaks, in a sentence; what `broken_by` shows image by image."""
    right = np.flatnonzero(report.clean)
    broke = {key: outcome.attacked[right] & outcome.success[right] for key, outcome in report.outcomes.items()}
    times = np.sum(list(broke.values()), axis=0)
    never, once = int((times == 0).sum()), int((times == 1).sum())
    return f"Of {len(right)} images that are right from the start, {never} survive every attack and {once} fall to a single one."


def distances_words(report: Report) -> str:
    """The median distance to the nearest wrong image over all images that are right, as found by all minimum-norm attacks together."""
    least = np.min([report.distance(key) for key, outcome in report.outcomes.items() if not outcome.bounded], axis=0)
    found = float(np.median(least)) if len(least) else np.nan
    return f"Median distance to the nearest wrong image, of those that are right: {number(found, 3) if np.isfinite(found) else '∞'}."


def warnings_table(summary: Mapping) -> pd.DataFrame:
    """One row for each kind of warning and part it came from; empty where there was none."""
    return pd.DataFrame(summary["warnings"], columns=["part", "kind", "times", "message"])


def robustbench_table(summary: Mapping) -> pd.DataFrame:
    """The fields of RobustBench that are known."""
    rows = {key: value for key, value in summary["robustbench"].items() if value is not None}
    return pd.DataFrame({"field": rows.keys(), "value": map(str, rows.values())})


def report_bars(summary: Mapping) -> Figure:
    """Accuracy clean, after each attack and in the worst case, one bar each, with 95 % intervals over images."""
    rows = {"clean": summary["clean"], **summary["attacks"], "worst case": summary["worst_case"]}
    shades = dict(zip(summary["suites"], sns.color_palette("colorblind"), strict=False))
    value = np.array([100 * row["accuracy"] for row in rows.values()])
    low, high = (np.array([100 * row[side] for row in rows.values()]) for side in ("low", "high"))
    fig, ax = plt.subplots(figsize=(COLUMN, 0.23 * len(rows) + 0.8))
    colours = [shades.get(key.split("/")[0], "dimgrey") for key in rows]
    error = np.stack([value - low, high - value]).clip(0)
    ax.barh(range(len(rows)), value, color=colours, xerr=error, error_kw={"lw": 1})
    ax.set_yticks(range(len(rows)), [key.replace("/", ": ") for key in rows])
    ax.set(xlabel=f"accuracy (%), n = {summary['n']}", xlim=(0, 100))
    ax.invert_yaxis()
    return fig


def broken_by(report: Report) -> Figure:
    """Which attack breaks which image: one column an image that is right from the start, ordered by how many break
    it."""
    right = np.flatnonzero(report.clean)
    broke = np.array([np.where(o.attacked, o.success, np.nan)[right] for o in report.outcomes.values()], dtype=float)
    order = np.argsort(-np.nansum(broke, 0), kind="stable")
    fig, ax = plt.subplots(figsize=(COLUMN, 0.22 * len(broke) + 0.8))
    shades = plt.matplotlib.colors.ListedColormap(["#d9d9d9", "#b2182b"])
    ax.imshow(np.ma.masked_invalid(broke[:, order]), aspect="auto", interpolation="nearest", cmap=shades, vmin=0, vmax=1)
    ax.set_yticks(range(len(broke)), [key.replace("/", ": ") for key in report.outcomes])
    ax.set(xlabel=f"images right from the start ({len(right)}); red: broken, grey: not, blank: not tried")
    ax.grid(False)
    return fig


def distance_curves(report: Report) -> Figure | None:
    """Share of all images still right against the distance that each minimum-norm attack needs, and for their
    minimum."""
    keys = [key for key, outcome in report.outcomes.items() if not outcome.bounded]
    if not keys:
        return None
    curves = {key.split("/")[1]: report.distance(key) for key in keys}
    curves["minimum over all"] = np.min(list(curves.values()), axis=0)
    finite = np.concatenate([d[np.isfinite(d)] for d in curves.values()])
    radii = np.linspace(0, max(finite.max() if len(finite) else 0, report.about["eps"]) * 1.05, 200)
    fig, ax = plt.subplots(figsize=(COLUMN, 3.4))
    for name, distance in curves.items():
        thick = name == "minimum over all"
        right = [100 * (distance > radius).sum() / len(report.label) for radius in radii]
        ax.plot(radii, right, label=name, color="black" if thick else None, lw=2 if thick else 1)
    ax.axvline(report.about["eps"], color="grey", ls="--", lw=1)
    norm = NORM_NAMES[report.about["norm"]]
    ax.set(xlabel=f"{norm} distance (image units)", ylabel=f"accuracy (%), n = {len(report.label)}", ylim=(0, 100))
    ax.legend()
    return fig


def refused_table(refused: Sequence[tuple[str, str, int, str]]) -> pd.DataFrame:
    """One row a mistake: (what, command, exit status, what is said to it); what and command in one column, which may wrap."""
    rows = [(f"{what}: {command}", status, said) for what, command, status, said in refused]
    return pd.DataFrame(rows, columns=["mistake", "status", "what is said"]).set_index("mistake")

"""One picture for each check of a masking report, drawn from its record alone; nothing here runs a model.

`figure(check)` takes a `masking.Check` or its JSON form and picks the drawing by the check's number.
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deepdefense.masking.check import Check, MaskingReport

from ..figures import COLUMN

BLUE, ORANGE, GREEN, *_ = sns.color_palette("colorblind")
GREY = (0.6, 0.6, 0.6)
VERDICT_MARKS = {"pass": "✓", "fail": "✗", "no power": "○", "not applicable": "–"}  # so that colour is not all there is


def _record(check) -> Mapping:
    return check if isinstance(check, Mapping) else check.to_dict()


def verdict_words(check) -> str:
    """The verdict of a check (or its JSON form) with its mark; a pass is "in part" if some of its rules could not fail."""
    check = Check.from_record(_record(check))
    return f"{VERDICT_MARKS[check.verdict]} {check.verdict}" + (" in part" if check.in_part else "")


def power_words(check) -> str:
    """How many images could have counted against a check, and how many would have failed it, rule by rule."""
    return "; ".join(dict.fromkeys(rule.words for rule in Check.from_record(_record(check)).rules))


def power_short(check) -> str:
    """`power_words` for a narrow column: "12 (4)" where 12 images could count and 4 would fail; "never": not even all would."""
    rules = Check.from_record(_record(check)).rules
    return ", ".join(dict.fromkeys(f"{rule.could} ({rule.fails_from or 'never'})" for rule in rules))


def _bars(ax: Axes, values: Mapping[str, float], colours: Sequence, xlabel: str) -> None:
    """Horizontal bars of shares in [0, 1], first on top, each with its number."""
    names = list(values)
    ax.barh(names, [values[name] for name in names], color=list(colours), height=0.65)
    for row, name in enumerate(names):
        ax.annotate(
            f"{100 * values[name]:.1f} %",
            (values[name], row),
            xytext=(3, 0),
            textcoords="offset points",
            va="center",
        )
    ax.invert_yaxis()
    ax.set(xlim=(0, 1.3), xticks=np.linspace(0, 1, 3), xlabel=xlabel)


def strength(check) -> Figure:
    """Check 1: accuracy against eps; accuracy left by one step, PGD, twice the steps, restarts."""
    data = _record(check)["data"]
    fig, (left, right) = plt.subplots(1, 2, figsize=(COLUMN, 2.7), width_ratios=[1, 1])
    left.plot(data["eps"], data["accuracy"], marker="o", color=BLUE)
    left.axhline(0, color="black", lw=0.8)
    left.set(xlabel="eps", ylabel="accuracy (PGD, ce)", ylim=(-0.03, 1.03), xlim=(0, 0.52))
    _bars(right, data["variants"], [GREY] + [BLUE] * (len(data["variants"]) - 1), "accuracy left")
    return fig


def invariance(check) -> Figure:
    """Check 2: accuracy against the scale of the logits; by loss; histogram of the gradient norms, zeros at left."""
    data = _record(check)["data"]
    fig, (left, middle, right) = plt.subplots(1, 3, figsize=(COLUMN, 2.6))
    left.semilogx(data["scale"], data["scale accuracy"], marker="o", color=BLUE, label="float32")
    if data["float64 accuracy"] is not None:
        left.plot([1], [data["float64 accuracy"]], marker="D", ms=9, mfc="none", ls="", color=ORANGE, label="float64")
    left.axhline(data["white-box accuracy"], color="black", ls="--", lw=1, label="all white-box attacks")
    left.set(xlabel="logits × this factor", ylabel="accuracy (PGD, ce)", ylim=(-0.03, 1.03))
    left.legend()
    _bars(middle, data["loss accuracy"], [BLUE] * len(data["loss accuracy"]), "accuracy under PGD, by loss")
    _norms(right, data["gradient norms"])
    return fig


def _norms(ax: Axes, by_loss: Mapping[str, Sequence[float | None]]) -> None:
    """Histogram of log10 of the norms; norms of exactly zero in a bin of their own, one decade below the smallest."""
    logs, zeros = {}, {}
    for loss, norms in by_loss.items():
        numbers = np.array([norm for norm in norms if norm is not None])
        zeros[loss], logs[loss] = int((numbers == 0).sum()), np.log10(numbers[numbers > 0])
    everything = np.concatenate(list(logs.values()))
    low, high = (everything.min(), everything.max()) if len(everything) else (-1.0, 0.0)
    bins = np.linspace(low - 0.1, high + 0.1, 21)
    for (loss, values), colour in zip(logs.items(), (BLUE, ORANGE), strict=False):
        ax.hist(values, bins=bins, alpha=0.6, color=colour, label=loss)
        if zeros[loss]:
            ax.bar(bins[0] - 1, zeros[loss], width=0.4, alpha=0.6, color=colour)
    if any(zeros.values()):
        ax.annotate("exactly 0", (bins[0] - 1, 0), xytext=(0, 4), textcoords="offset points", ha="center")
    ax.set(xlabel="log10 of ‖input gradient‖", ylabel="images")
    ax.legend()


def comparison(check) -> Figure:
    """Checks 3, 5, 8: accuracy under the white-box attacks and their rivals; images that a rival alone breaks."""
    data = _record(check)["data"]
    accuracy, only = data["accuracy"], data["only"]
    fig, (left, right) = plt.subplots(1, 2, figsize=(COLUMN, 0.28 * len(accuracy) + 1.2))
    shades = [BLUE if name in data["white-box"] else ORANGE for name in accuracy]
    _bars(left, accuracy, shades, "accuracy left (blue: white-box)")
    right.barh(list(only), list(only.values()), color=ORANGE, height=0.65)
    for row, count in enumerate(only.values()):
        right.annotate(str(count), (count, row), xytext=(3, 0), textcoords="offset points", va="center")
    right.invert_yaxis()
    right.set(xlim=(0, max(5, 1.15 * max(only.values()))), xlabel="images that only this attack breaks")
    return fig


def random_points(check) -> Figure:
    """Check 4: share of the random points that are mistakes, image by image, largest first."""
    data = _record(check)["data"]
    share = np.sort(np.array(data["wrong points"]) / data["draws"])[::-1]
    fig, ax = plt.subplots(figsize=(5.0, 2.6))
    ax.plot(np.arange(1, len(share) + 1), share, marker=".", color=ORANGE)
    (name,) = data["only"]
    ax.set(xlabel="image, by rank", ylabel="share of random points", ylim=(-0.03, 1.03))
    ax.set_title(f"mistakes among {data['draws']} random points; {data['only'][name]} images only so")
    return fig


def convergence(check) -> Figure:
    """Check 6: loss per step (median and middle half of the images); share fooled now and so far."""
    data = _record(check)["data"]
    low, middle, high = (np.array(row, dtype=float) for row in data["loss quartiles"])
    steps = np.arange(len(middle))
    fig, (left, right) = plt.subplots(1, 2, figsize=(COLUMN, 2.7))
    left.plot(steps, middle, color=BLUE)
    left.fill_between(steps, low, high, color=BLUE, alpha=0.2, lw=0)
    left.set(xlabel="step of PGD", ylabel="cross-entropy")
    right.plot(steps, data["fooled so far"], color=ORANGE, label="fooled at some step so far")
    right.plot(steps, data["fooled share"], color=BLUE, ls="--", label="fooled at this step")
    right.axhline(1 - data["accuracy"]["multi-targeted"], color=GREEN, ls=":", label="multi-targeted, with restarts")
    right.set(xlabel="step of PGD", ylabel="share of images", ylim=(-0.03, 1.03))
    right.legend()
    return fig


def binarisation(check) -> Figure:
    """Check 7: share of the readouts that each attack solves, beside guessing and the share wanted."""
    data = _record(check)["data"]
    fig, ax = plt.subplots(figsize=(5.6, 0.3 * len(data["success"]) + 1.1))
    colours = [GREY if name == "random guessing" else BLUE for name in data["success"]]
    _bars(ax, data["success"], colours, "share of readouts solved")
    ax.axvline(data["wanted"], color="black", ls="--", lw=1)
    return fig


def autoattack_warnings(check) -> Figure:
    """Check 9: what AutoAttack warned of, in its own words."""
    texts = _record(check)["data"]["texts"]
    fig, ax = plt.subplots(figsize=(COLUMN, 0.5 * max(1, len(texts)) + 0.4))
    ax.axis("off")
    ax.text(0, 1, "\n".join(f"• {text}" for text in texts) or "no warning", va="top", wrap=True)
    return fig


DRAWINGS = {
    1: strength,
    2: invariance,
    3: comparison,
    4: random_points,
    5: comparison,
    6: convergence,
    7: binarisation,
    8: comparison,
    9: autoattack_warnings,
}


def figure(check) -> Figure:
    """The picture of one check, titled with its verdict. ValueError for one that was not made: it has no data."""
    record = Check.from_record(_record(check)).to_dict()
    if not record["data"]:
        raise ValueError(f"check {record['number']} was not made, so there is nothing to draw: {record['reason']}")
    fig = DRAWINGS[record["number"]](record)
    n = record["numbers"].get("n", record["numbers"].get("readouts"))
    fig.suptitle(f"{record['number']}. {record['title']}: {record['verdict']}" + (f" (n = {n})" if n else ""))
    fig.set_layout_engine("constrained")
    return fig


SEEN = {  # what is drawn, check by check, and what must hold
    1: "Curve of the accuracy against eps and bars of what is left by one step, PGD, twice the steps, restarts: it must fall to 0.",
    2: "Accuracy against the scale of the logits, by loss, and a histogram of gradient norms: nothing may lie below the dashed line of all "
    "white-box attacks, and no gradient may be exactly 0.",
    3: "Bars of accuracy and of images that one attack alone breaks: orange bars (rivals) must not be shorter than the shortest blue one.",
    4: "Share of random points that are mistakes, image by image, largest first.",
    6: "Loss and share of images fooled against the step of PGD: the loss must level off, and the dashed line must meet the full one.",
    7: "Bars of the readouts that each attack solves: they must reach the dashed line, and guessing must not.",
    9: "What AutoAttack said.",
}
SEEN |= {5: SEEN[3], 8: SEEN[3]}


def words(check) -> tuple[str, str]:
    """(caption, alternative text) of `figure`: the verdict with its reason, and what is drawn."""
    record = Check.from_record(_record(check)).to_dict()
    said = f"{record['number']}. {record['title']}: {verdict_words(check)}. {record['reason']}"
    return f"{said}\n{SEEN[record['number']]}", f"{SEEN[record['number']]} {said}"


def checks_table(report) -> pd.DataFrame:
    """One row a check of a masking report: what it asks, the verdict, the images that could have counted, the reason."""
    rows = [
        {"check": c.number, "question": c.title, "verdict": verdict_words(c), "power": power_words(c), "reason": c.reason}
        for c in report.checks
    ]
    return pd.DataFrame(rows).set_index("check")


def verdicts_table(reports: Mapping[str, MaskingReport]) -> pd.DataFrame:
    """The nine verdicts of several reports, one column each; reports: {title: report}."""
    columns = {title: {f"{c.number}. {c.title}": verdict_words(c) for c in report.checks} for title, report in reports.items()}
    return pd.DataFrame(columns)


def tally(report: MaskingReport) -> dict[str, int]:
    """{outcome in words: how many of the checks}: of all that pass, pass in part (some rules could not fail), had no power or failed."""
    kinds = ["pass in part" if check.in_part else check.verdict for check in report.checks]
    said = {"pass": "pass", "pass in part": "pass in part", "no power": "without power", "fail": "fail", "not applicable": "not made"}
    counts = {words: kinds.count(kind) for kind, words in said.items()}
    return counts if counts["not made"] else {words: n for words, n in counts.items() if words != "not made"}


def tally_words(report: MaskingReport) -> str:
    """`tally` in a line: "6 pass, 2 pass in part, 1 without power, 0 fail"."""
    return ", ".join(f"{n} {words}" for words, n in tally(report).items())


def findings(reports: Mapping[str, MaskingReport]) -> str:
    """What several reports exclude, from them alone: a line a network, then what follows. A check without power excludes nothing."""
    if not reports:
        return "There is no masking report, so nothing is excluded."
    lines = [f"{title}: {tally_words(report)}" for title, report in reports.items()]
    failed = {title: report.failed for title, report in reports.items() if report.failed}
    whole = [title for title, report in reports.items() if tally(report)["pass"] == len(report.checks)]
    if failed:
        lines.append("FAILED: " + "; ".join(f"{title}, check {', '.join(map(str, numbers))}" for title, numbers in failed.items()) + ".")
    else:
        lines.append(f"No check fails on any of {len(reports)} networks.")
    lines.append(f"All checks pass, each with power, on {len(whole)} of {len(reports)}: {'; '.join(whole) or 'none'}.")
    if len(whole) + len(failed) < len(reports):
        lines.append("On the others some checks, or some of their rules, could not have failed or were not made: those exclude nothing.")
    return "\n".join(lines)


def power_table(report) -> pd.DataFrame:
    """One row a rule of each check: how many images broke it, could have broken it, and would have failed it, of how many."""
    rows = [
        {"check": c.number, "rule": r.name, "counted": r.count, "could count": r.could, "fails from": r.fails_from, "n": r.n}
        for c in report.checks
        for r in c.rules
    ]
    columns = ["check", "rule", "counted", "could count", "fails from", "n"]
    return pd.DataFrame(rows, columns=columns).astype({"fails from": "Int64"}).set_index(["check", "rule"])

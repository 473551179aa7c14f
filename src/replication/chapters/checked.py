"""Tables and pictures of the attack suite's check on known models, from its records alone; nothing here runs a model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import seaborn as sns
from matplotlib.figure import Figure

from deepdefense.evaluation.report import JSON_NAME
from deepdefense.masking.check import JSON_NAME as MASKING_NAME
from deepdefense.masking.check import MaskingReport
from deepdefense.storage import files, paths

from .. import intervals
from ..records import AGREEMENT_JSON, AGREEMENT_PARQUET
from ..scope import DEFENCE_NAMES, NORM_NAMES
from . import masking_checks

READS = ("benchmarks", "checked")  # folders of data/results/, for the workflow
TITLES = {"plain-cnn": "plain CNN", "pgd-cnn": "PGD-trained CNN", "resnet18": "pyautoattack's ResNet-18"}


@dataclass(frozen=True)
class Checked:
    """The records of one model at one eps: the summary of its report, how it agrees with others' code, its masking report
    if there is one, and DeepFool's distances, {"l2 ours": (N,), …}: ∞ for failures, NaN for images wrong from the start."""

    name: str
    report: Mapping
    agreement: Mapping
    masking: MaskingReport | None
    deepfool: Mapping[str, np.ndarray]

    @property
    def title(self) -> str:
        eps = self.report["robustbench"]["eps"]
        return f"{TITLES.get(self.report['name'], self.report['name'])}, {eps}"


def load(folder: str | Path | None = None) -> list[Checked]:
    """The records below `folder` (default: data/results/checked), the models in the order of the chapter."""
    folder = paths.results_root() / "checked" if folder is None else Path(folder)
    found = []
    for name in sorted((path.name for path in folder.glob("*/") if path.is_dir()), key=_place):
        here = folder / name
        table = pq.read_table(here / AGREEMENT_PARQUET)
        far = {key.removeprefix("deepfool "): table[key].to_numpy() for key in table.column_names if key.startswith("deepfool ")}
        report, agreed = (files.read_json(here / file) for file in (JSON_NAME, AGREEMENT_JSON))
        masked = MaskingReport.read(here) if (here / MASKING_NAME).exists() else None
        found.append(Checked(name, report, agreed, masked, far))
    if not found:
        raise files.ResultsError(f"there are no records of checked models in {folder}")
    return found


def _place(name: str) -> tuple[int, str]:
    model = name.split("-eps")[0]
    return (list(TITLES).index(model) if model in TITLES else len(TITLES)), name


def scale_table(models: Sequence[Checked]) -> pd.DataFrame:
    """How much stands behind each model's numbers, a row each."""
    rows = []
    for one in models:
        report, spent = one.report, one.masking and one.masking.settings
        training = report["training"] and report["training"]["config"]
        row = {"model": one.title, "n": report["n"], "at a time": report["chunk"], "suites": ", ".join(report["suites_run"])}
        row |= {"training": f"{training['train_size']:,} images, {training['epochs']} epochs" if training else "not trained here"}
        row |= {"authors' code ran": ", ".join(one.agreement["autoattack"]["parts"])}
        row |= {f"{name}, masking": spent[name] if spent else "–" for name in ("steps", "draws", "queries")}
        rows.append(row | {"device": report["environment"]["device"], "commit": report["environment"]["commit"]})
    return pd.DataFrame(rows).set_index("model")


def agreement_words(models: Sequence[Checked]) -> list[str]:
    """How our suite agrees with its authors' code, a sentence a model."""
    said = []
    for one in models:
        auto = one.agreement["autoattack"]
        last = list(auto["accuracy"].values())[-1]
        said.append(
            f"{'AutoAttack' if len(auto['parts']) == 4 else ' and '.join(auto['parts'])} on {one.title}: our suite and its authors' code "
            f"give the same image for {auto['identical images']} of {one.agreement['n']}, and leave "
            f"{_percent(last['ours'])} % and {_percent(last['authors'])} % right."
        )
    return said


def reasons_table(models: Sequence[Checked]) -> pd.DataFrame:
    """Why each check of each model says what it says, a row each."""
    rows = [
        {"model": one.title, "check": f"{c.number}. {c.title}", "verdict": masking_checks.verdict_words(c), "reason": c.reason}
        for one in models
        if one.masking
        for c in one.masking.checks
    ]
    return pd.DataFrame(rows, columns=["model", "check", "verdict", "reason"]).set_index(["model", "check"])


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def accuracy_table(models: Sequence[Checked]) -> pd.DataFrame:
    """Accuracy in %: clean, after each part of AutoAttack by our suite and by its authors' code, and how many images are
    the same to the last bit."""
    rows = []
    for one in models:
        auto = one.agreement["autoattack"]
        for part, accuracy in auto["accuracy"].items():
            rows.append(
                {
                    "model": one.title,
                    "clean": _percent(one.report["clean"]["accuracy"]),
                    "after": part,
                    "ours": _percent(accuracy["ours"]),
                    "authors": _percent(accuracy["authors"]),
                    "identical images, all parts": f"{auto['identical images']} of {one.agreement['n']}",
                }
            )
    return pd.DataFrame(rows).set_index(["model", "clean", "after"])


def suites_table(models: Sequence[Checked]) -> pd.DataFrame:
    """Accuracy in % in the worst case of each suite and over all, with 95 % intervals over images; "–": suite not run."""

    def words(entry: Mapping | None) -> str:
        return "–" if entry is None else f"{_percent(entry['accuracy'])} [{_percent(entry['low'])}, {_percent(entry['high'])}]"

    names = list(dict.fromkeys(name for one in models for name in one.report["suites"]))
    rows = [
        {"model": one.title, "clean": words(one.report["clean"])}
        | {name: words(one.report["suites"].get(name)) for name in names}
        | {"worst case": words(one.report["worst_case"])}
        for one in models
    ]
    return pd.DataFrame(rows).set_index("model")


def apgd_table(models: Sequence[Checked]) -> pd.DataFrame:
    """Accuracy in % under APGD on cross-entropy, 100 steps: torchattacks' behind our wrapper, and the authors' own."""
    rows = [
        {
            "model": one.title,
            "ours (torchattacks)": _percent(one.report["attacks"]["gradient/APGD-100"]["accuracy"]),
            "authors": _percent(one.agreement["autoattack"]["accuracy"]["APGD-CE"]["authors"]),
            "n": one.report["n"],
        }
        for one in models
    ]
    return pd.DataFrame(rows).set_index("model")


def deepfool_table(models: Sequence[Checked]) -> pd.DataFrame:
    """DeepFool, ours and foolbox's, on the images that are right from the start: median distance, failures, outliers."""

    def number(value: float | None) -> str:
        return "∞" if value is None else f"{value:.4f}"

    rows = []
    for one in models:
        for norm, found in one.agreement["deepfool"].items():
            median, failed = found["median"], found["failures"]
            rows.append(
                {
                    "model": one.title,
                    "norm": NORM_NAMES[norm],
                    "n": found["n"],
                    "median, ours": number(median["ours"]),
                    "median, foolbox": number(median["foolbox"]),
                    "failures, ours / foolbox": f"{failed['ours']} / {failed['foolbox']}",
                    "ours > 5 % larger": found["ours larger by more than 5 %"],
                    "foolbox > 5 % larger": found["foolbox larger by more than 5 %"],
                }
            )
    return pd.DataFrame(rows).set_index(["model", "norm"])


def deepfool_ratios(models: Sequence[Checked]) -> Figure:
    """Our DeepFool's distance over foolbox's, image by image in order of the ratio; the band is ±5 %."""
    fig, axes = plt.subplots(1, 2, figsize=(7.2, 3), sharey=True)
    for ax, norm in zip(axes, ("l2", "linf"), strict=True):
        for one, colour in zip(models, sns.color_palette("colorblind"), strict=False):
            ratio = one.deepfool[f"{norm} ours"] / one.deepfool[f"{norm} foolbox"]
            ratio = np.sort(ratio[np.isfinite(ratio)])
            if len(ratio) < intervals.FEW:
                continue
            share = (np.arange(len(ratio)) + 0.5) / len(ratio)
            ax.plot(share, ratio, color=colour, label=f"{one.title}, n = {len(ratio)}")
        ax.axhspan(0.95, 1.05, color="grey", alpha=0.15, lw=0)
        ax.axhline(1, color="black", lw=0.8)
        ax.set(xlabel="share of images", title=NORM_NAMES[norm])
    axes[0].set(ylabel="distance, ours / foolbox")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig


def timings_table(record: Mapping) -> pd.DataFrame:
    """Milliseconds and passes an image of each implementation, from a record of benchmarks/attacks.py."""
    rows = []
    for row in record["attacks"]:
        if "error" in row:
            rows.append({"attack": row["attack"], "by": row["by"], "note": row["error"]})
            continue
        rows.append(
            {
                "attack": row["attack"],
                "by": row["by"],
                "ms an image, median [range]": f"{row['ms']:.1f} [{row['ms_min']:.1f}, {row['ms_max']:.1f}]",
                "forward": f"{row['forward']:.0f}",
                "backward": f"{row['backward']:.0f}",
                "success (%)": _percent(row["success"]),
                "median distance": "∞" if row["distance"] is None else f"{row['distance']:.4f}",
            }
        )
    return pd.DataFrame(rows).fillna("").set_index(["attack", "by"])


def verdicts_table(models: Sequence[Checked]) -> pd.DataFrame:
    """The nine verdicts of each model that has a masking report."""
    return masking_checks.verdicts_table({one.title: one.masking for one in models if one.masking})


def findings(models: Sequence[Checked]) -> str:
    """How many checks passed, passed in part, had no power or failed, by model, and what that excludes."""
    return masking_checks.findings({one.title: one.masking for one in models if one.masking})


WAYS = ("as it is", "as it is, again", "instructions of AVX2", "two threads")


def processors() -> dict:
    """The record of workflow/check_processors.py: the same runs trained again here, in several ways."""
    return files.read_json(paths.results_root() / "checked" / "processors.json")


def processors_table(record: Mapping) -> pd.DataFrame:
    """Accuracy on the test set of each run in each way, in %, whether its weights are those of the first, and the committed record's."""
    rows = []
    for name in dict.fromkeys(row["objective"] for row in record["rows"]):
        mine = {row["way"]: row for row in record["rows"] if row["objective"] == name}
        for way in WAYS:
            same = "the same" if mine[way]["weights"] == mine[WAYS[0]]["weights"] else "others"
            rows.append({"run": DEFENCE_NAMES[name], "way": way, "test accuracy (%)": 100 * mine[way]["test_accuracy"], "weights": same})
        before = record["committed"].get(name)
        if before is not None:
            way = f"record of commit {before['environment']['commit'][:7]}"
            rows.append({"run": DEFENCE_NAMES[name], "way": way, "test accuracy (%)": 100 * before["test_accuracy"], "weights": "not kept"})
    return pd.DataFrame(rows).set_index(["run", "way"])


def processors_words(record: Mapping) -> str:
    """What the repeats say: equal where nothing changed, and by how much other instructions or threads move the accuracy."""
    rows = {(row["objective"], row["way"]): row for row in record["rows"]}
    names = list(dict.fromkeys(row["objective"] for row in record["rows"]))
    equal = all(rows[name, WAYS[0]]["weights"] == rows[name, WAYS[1]]["weights"] for name in names)
    moved = [100 * abs(rows[name, way]["test_accuracy"] - rows[name, WAYS[0]]["test_accuracy"]) for name in names for way in WAYS[2:]]
    same = "bit for bit the same weights" if equal else "other weights"
    return (
        f"The same commit, seed and processor, one thread, gives {same}. Held to another processor's instructions, or with two threads, "
        f"the same code gives other weights, and an accuracy that differs by {min(moved):.2f} to {max(moved):.2f} points: sums are "
        "rounded in another order. So a retrained network is the same on the same machine, and on another one within about as much."
    )

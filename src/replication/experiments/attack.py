"""A trained run under attack, its report kept in the run's folder."""

from collections.abc import Mapping, Sequence

import numpy as np

from deepdefense.attacks import minimum_norm
from deepdefense.attacks.smallest_distance import minimum_over
from deepdefense.data import Split
from deepdefense.evaluation.protocol import evaluate
from deepdefense.evaluation.report import Report
from deepdefense.training.config import TrainConfig
from deepdefense.training.runs import Run

from ..records import report_folder

TRAINING_FACTS = ("name", "config", "status", "data", "metrics", "environment")  # of a run, kept in its reports


def attack_run(
    run: Run,
    split: Split,
    *,
    eps: float,
    norm: str = "linf",
    which: str = "last",
    suites: Sequence | Mapping | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    mode: str = "full",
    progress: bool = True,
) -> Report:
    """The report of a trained run on `split`, kept in the run's folder and read from its pieces next time.

    which: "last" takes the weights of the last epoch, "best" those that validation selected. mode: as `evaluate` has it
    """
    about = {"name": run.name, "dataset": run.record["config"]["data"], "architecture": run.record["config"]["model"]}
    loss = TrainConfig(**run.record["config"]).loss
    about |= {"weights": which, "training": {key: run.record[key] for key in TRAINING_FACTS}}
    name = report_folder(eps=eps, norm=norm, which=which, n=len(split), seed=seed, mode=mode)
    folder = run.folder and run.folder / name
    model = {"last": run.last, "best": run.best}[which]
    return evaluate(
        model, split.images(), split.y, eps=eps, norm=norm, suites=suites, seed=seed, batch_size=batch_size,
        folder=folder, about=about, progress=progress, training_loss=loss, mode=mode,
    )  # fmt: skip


def nearest(model, x, y) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """{attack: (images (N, C, H, W), L2 distances (N,))} of DeepFool and EADEN; NaN where wrong already, ∞ where none was found."""
    found = {}
    for name, attack in (("DeepFool", minimum_norm.deepfool_l2), ("EADEN", minimum_norm.ead)):
        one = minimum_over(model, x, y, {name: attack}, norm="l2")
        found[name] = (one.x_adv.cpu().numpy(), one.distance.cpu().numpy())
    return found

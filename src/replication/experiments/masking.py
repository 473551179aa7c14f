"""The nine masking checks of trained networks, and the networks that attacks are transferred from."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from deepdefense import masking
from deepdefense.data import Dataset, load
from deepdefense.evaluation.report import JSON_NAME, Report
from deepdefense.masking import substitutes
from deepdefense.storage import files, paths
from deepdefense.training.config import TrainConfig
from deepdefense.training.runs import Run, build_model, load_model, load_run

from ..records import check_run

# What a report spends, as the command lines that make one offer it: {setting: of what}.
SPENT = {
    "steps": "of PGD",
    "draws": "random points an image",
    "queries": "of black-box attacks",
    "readouts": "images of the binarisation test",
}


def linf_report(folder: Path) -> Path:
    """The folder of the run's L∞ report that holds AutoAttack; a ValueError if there is none."""
    for path in sorted(folder.glob(f"report-*/{JSON_NAME}")):
        record = files.read_json(path)
        if record["norm"] == "linf" and "standard" in record["suites"]:
            return path.parent
    raise ValueError(f"{folder.name} has no L∞ report with AutoAttack: attack it with the suite standard first")


def own_copies(
    model: nn.Module, settings: TrainConfig, dataset: Dataset, device: torch.device, *, fresh_seed: int, seed: int
) -> dict[str, nn.Module]:
    """`model`, trained as `settings` say, distilled into fresh weights, and its own weights trained on without the defence."""
    images = dataset.train[: settings.train_size].to(device)
    x, y = images.images(), images.y
    fresh = build_model(replace(settings, seed=fresh_seed), dataset).to(device)
    return {
        "distilled": substitutes.distilled(model, fresh, x, seed=seed),
        "undefended": substitutes.undefended(model, x, y, loss=settings.loss, seed=seed),
    }


def transfer_networks(run: Run, dataset: Dataset, device: torch.device) -> dict[str, nn.Module]:
    """Networks to transfer to `run` from: plain and adversarial training of the same pair and seed, as far as they are in
    data/runs, and its own copies."""
    settings, found = TrainConfig(**run.record["config"]), {}
    for path in sorted(paths.runs_root().glob("*/run.json")):
        other = TrainConfig(**files.read_json(path)["config"])
        same = (other.data, other.model, other.width, other.seed) == (settings.data, settings.model, settings.width, settings.seed)
        if same and other.objective in ("standard", "pgd-at") and other.objective != settings.objective:
            found[other.objective] = load_model(path.parent, "last", str(device))
    return found | own_copies(run.last, settings, dataset, device, fresh_seed=settings.seed + 1000, seed=settings.seed)


def masking_run(name: str, device: torch.device, *, images: int | None = None, spent: Mapping[str, int]) -> masking.MaskingReport:
    """The masking report of the finished run `name`, kept in its folder and copied into data/results/masking/NAME/.

    images: the first test images (default: those of the run's report); spent: {setting: number} for the names in `SPENT`
    """
    folder = check_run(name)
    made = Report.read(linf_report(folder))
    run = load_run(folder, str(device))
    settings = TrainConfig(**run.record["config"])
    dataset = load(settings.data)
    n = min(images or len(made.label), len(made.label))
    test = dataset.test[:n].to(device)
    kept = folder / f"masking-n{n}"
    about = {"name": name, "dataset": settings.data, "config": run.record["config"], "weights": "last"}
    found = masking.report(
        run.last, test.images(), test.y, eps=made.about["eps"], substitutes=transfer_networks(run, dataset, device),
        evaluated=made if n == len(made.label) else None, settings=masking.Settings(training_loss=settings.loss, **spent),
        folder=kept, about=about, progress=True,
    )  # fmt: skip
    target = paths.results_root() / "masking" / name
    target.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(kept / masking.JSON_NAME, target / masking.JSON_NAME)
    return found

"""The masking report of finished runs that have been attacked, into data/results/masking/RUN/.

    python workflow/masking_report.py RUN [RUN ...] [--images 200] [--steps 40] [--draws 10000] [--queries 2000] [--readouts 64]

RUN: names of runs in data/runs/ with a report that holds AutoAttack. Attacks are transferred from plain and from adversarial
training of the same pair and seed where these are there, from a distilled copy, and from the weights trained on without the
defence. Every finished piece is kept in the run's folder, so that a killed command goes on.
"""

import argparse
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import torch

from deepdefense import data, inference, masking, training
from deepdefense.evaluation.report import JSON_NAME, Report
from deepdefense.masking import substitutes
from deepdefense.storage import files, paths
from deepdefense.training import runs
from replication import records


def linf_report(folder: Path) -> Path:
    """The folder of the run's L∞ report that holds AutoAttack; a ValueError if there is none."""
    for path in sorted(folder.glob(f"report-*/{JSON_NAME}")):
        record = files.read_json(path)
        if record["norm"] == "linf" and "standard" in record["suites"]:
            return path.parent
    raise ValueError(f"{folder.name} has no L∞ report with AutoAttack: attack it with the suite standard first")


def others(run: training.Run, dataset: data.Dataset, device: torch.device) -> dict[str, torch.nn.Module]:
    """Networks to transfer from."""
    settings, found = training.TrainConfig(**run.record["config"]), {}
    for path in sorted(paths.runs_root().glob("*/run.json")):
        other = training.TrainConfig(**files.read_json(path)["config"])
        same = (other.data, other.model, other.width, other.seed) == (settings.data, settings.model, settings.width, settings.seed)
        if same and other.objective in ("standard", "pgd-at") and other.objective != settings.objective:
            found[other.objective] = training.load_model(path.parent, "last", str(device))
    images = dataset.train[: settings.train_size].to(device)
    x, y = images.images(), images.y
    fresh = runs.build_model(replace(settings, seed=settings.seed + 1000), dataset).to(device)
    found["distilled"] = substitutes.distilled(run.last, fresh, x, seed=settings.seed)
    found["undefended"] = substitutes.undefended(run.last, x, y, loss=settings.loss, seed=settings.seed)
    return found


def check(name: str, options: argparse.Namespace, device: torch.device) -> None:
    """The report of one run."""
    folder = records.check_run(name)
    made = Report.read(linf_report(folder))
    run = training.load_run(folder, str(device))
    settings = training.TrainConfig(**run.record["config"])
    dataset = data.load(settings.data)
    n = min(options.images or len(made.label), len(made.label))
    test = dataset.test[:n].to(device)
    spent = masking.Settings(
        training_loss=settings.loss, steps=options.steps, draws=options.draws, queries=options.queries, readouts=options.readouts
    )
    kept = folder / f"masking-n{n}"
    about = {"name": name, "dataset": settings.data, "config": run.record["config"], "weights": "last"}
    found = masking.report(
        run.last, test.images(), test.y, eps=made.about["eps"], substitutes=others(run, dataset, device),
        evaluated=made if n == len(made.label) else None, settings=spent, folder=kept, about=about, progress=True,
    )  # fmt: skip
    target = paths.results_root() / "masking" / name
    target.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(kept / masking.JSON_NAME, target / masking.JSON_NAME)
    print(f"{name}: checks failed: {', '.join(map(str, found.failed)) or 'none'}; record in {target}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument("--images", type=int, help="the first test images (default: those of the run's report)")
    spent = masking.Settings()
    for setting, words in (("steps", "of PGD"), ("draws", "random points an image"), ("queries", "of black-box attacks"),
                           ("readouts", "images of the binarisation test")):  # fmt: skip
        parser.add_argument(f"--{setting}", type=int, default=getattr(spent, setting), help=f"{words} (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default: 1)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for name in options.runs:
        try:
            check(name, options, inference.pick_device(options.device))
        except ValueError as error:
            parser.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())

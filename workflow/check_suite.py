"""The attack suite checked on three CIFAR-10 models: our reports, beside the authors' AutoAttack and foolbox's DeepFool,
and whether the masking report leaves these honest models alone.

    python workflow/check_suite.py                                          # all three, 200 test images each: a GPU's work
    python workflow/check_suite.py --models resnet18 --eps 1                # where the ResNet has something left to lose
    python workflow/check_suite.py --models plain-cnn pgd-cnn --draws 2000  # what one CPU core can do, and
    python workflow/check_suite.py --models resnet18 --images 32 --chunk 16 --suites gradient,standard,minimum_norm --no-masking
    python workflow/check_suite.py --models resnet18 --images 8 --chunk 8 --suites gradient,standard --parts 2 --eps 1 --no-masking

The plain and the PGD-trained CNN are trained on 10,000 images for 20 epochs if they are not there; the ResNet-18 is the one
that pyautoattack carries. Each finished batch is kept in data/runs/checked/, so that a killed command goes on; the results go
into data/results/checked/MODEL/ (MODEL-epsE/ for an eps other than 8/255) and replace what is there.
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from masking_report import add_spent

from deepdefense import data, evaluate, inference, masking, training
from deepdefense.attacks.autoattack import PARTS
from deepdefense.storage import paths
from replication import example_defences, notebook, profiles, records
from replication.experiments import agreement
from replication.experiments.attack import TRAINING_FACTS
from replication.experiments.masking import SPENT, own_copies

CNNS = {"plain-cnn": "standard", "pgd-cnn": "pgd-at"}
SIZE = dict(width=1.0, epochs=20)
MODELS = (*CNNS, "resnet18")
KEPT = ("report.json", "report.parquet", records.AGREEMENT_JSON, records.AGREEMENT_PARQUET)


def load(name: str, device: torch.device) -> tuple[torch.nn.Module, dict]:
    """The model called `name`, in eval mode, and what its report says of it."""
    if name not in CNNS:
        model, _ = example_defences.trained_resnet18()
        about = {"architecture": "ResNet-18", "training": None, "link": "https://pypi.org/project/pyautoattack/"}
        return model.to(device), {"name": name, "dataset": "cifar10", **about}
    settings = profiles.make("quick", CNNS[name], **SIZE)
    run = training.fit(settings, folder=paths.runs_root() / settings.name(), device=str(device))
    about = {"architecture": settings.model, "training": {key: run.record[key] for key in TRAINING_FACTS}}
    return run.last, {"name": name, "dataset": "cifar10", **about}


def others(name: str, model: torch.nn.Module, device: torch.device, seed: int = 0) -> dict[str, torch.nn.Module]:
    """Networks to transfer from: the CNNs that `name` is not; and for a CNN itself distilled, and trained on undefended."""
    found = {other: load(other, device)[0] for other in CNNS if other != name}
    if name not in CNNS:
        return found
    settings = profiles.make("quick", CNNS[name], **SIZE)
    return found | own_copies(model, settings, data.load("cifar10"), device, fresh_seed=seed + 1, seed=seed)


def check(name: str, options: argparse.Namespace, device: torch.device) -> None:
    """Everything about one model, into its folder of `options.out`."""
    model, about = load(name, device)
    test = data.load("cifar10").test[: options.images].to(device)
    x, y, eps = test.images(), test.y, options.eps / 255
    title = name if options.eps == 8 else f"{name}-eps{options.eps:g}"
    folder = paths.runs_root() / "checked" / f"{title}-n{options.images}-chunk{options.chunk}"
    suites = notebook.check_suites(options.suites)
    report = evaluate(model, x, y, eps=eps, suites=suites, chunk=options.chunk, folder=folder, about=about)
    parts, known = PARTS[: options.parts], {"name": name, "dataset": "cifar10"}
    record = agreement.compare(model, x, y, eps=eps, batch_size=options.chunk, parts=parts, folder=folder, about=known)
    same = record["autoattack"]["identical images"]
    print(f"{title}: {same} of {record['n']} images identical to the authors' after {', '.join(parts)}", flush=True)
    if options.masking:
        spent = masking.Settings(
            training_loss="ce" if about["training"] is None else "mse", batch_size=options.chunk,
            **{setting: getattr(options, setting) for setting in SPENT},
        )  # fmt: skip
        found = masking.report(
            model, x, y, eps=eps, substitutes=others(name, model, device), evaluated=report, settings=spent,
            folder=folder, about=known, progress=True,
        )  # fmt: skip
        print(f"{title}: masking checks failed: {', '.join(map(str, found.failed)) or 'none'}", flush=True)
    target = options.out / title
    target.mkdir(parents=True, exist_ok=True)
    for file in (*KEPT, *[masking.JSON_NAME] * options.masking):
        shutil.copyfile(folder / file, target / file)
    print(f"records in {target}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), help="default: all three")
    parser.add_argument("--images", type=int, default=200, help="the first test images of CIFAR-10 (default: 200)")
    parser.add_argument("--chunk", type=int, default=100, help="images that an attack is given together (default: 100)")
    parser.add_argument("--eps", type=float, default=8, help="L∞ radius in grey levels of 255 (default: 8)")
    parser.add_argument("--suites", help="comma-separated, with standard among them (default: all there are)")
    parser.add_argument("--parts", type=int, default=4, help="how many parts of AutoAttack the authors' code runs too (1 to 4)")
    parser.add_argument("--no-masking", dest="masking", action="store_false", help="leave out the masking report")
    add_spent(parser)
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default: 1)")
    parser.add_argument("--out", type=Path, default=paths.results_root() / "checked", help="default: data/results/checked")
    options = parser.parse_args(arguments)
    if min(options.images, options.chunk, options.threads) < 1 or not 1 <= options.parts <= len(PARTS):
        parser.error("--images, --chunk and --threads must be 1 or more, --parts 1 to 4")
    if not 0 < options.eps < 127:
        parser.error("--eps must be above 0 and below 127, in grey levels")
    if options.suites and "standard" not in options.suites.split(","):
        parser.error("--suites must hold standard: it is what the comparison reads")
    torch.set_num_threads(options.threads)
    for name in options.models:
        check(name, options, inference.pick_device(options.device))
    return 0


if __name__ == "__main__":
    sys.exit(main())

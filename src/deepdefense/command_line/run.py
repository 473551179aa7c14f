"""One evaluation as the command line runs it: loaded and tried at the door, its cost said, run, and written."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from .. import html_report, masking
from ..attacks import autoattack
from ..attacks.contract import Attack
from ..attacks.libraries import library
from ..attacks.suites import SUITES
from ..data import SPECS
from ..evaluation import preconditions
from ..evaluation.preparation import possible, writable
from ..evaluation.protocol import CHUNK, chosen_suites, evaluate
from ..evaluation.report import Report, wilson
from ..inference import frozen, predict
from ..loading import Defence, load
from ..masking import MaskingReport, substitutes
from ..storage import files
from ..storage.files import ResultsError
from .cost import Cost, duration, estimate
from .options import Options
from .progress import whole_run

THROUGH_TORCHATTACKS, LINF_ALONE = ("gradient", "paper"), ("gradient", "adaptive")  # suites
ADVICE = (
    "are they scaled as in its training (with --mean and --std, if the model has no scaling inside), are the channels in its order, "
    "and do the labels number the classes as it does?"
)


@dataclass(frozen=True)
class Prepared:
    """A defence that passed the door, with what will be run on it and what that costs."""

    options: Options
    defence: Defence
    chosen: dict[str, dict[str, Attack]]
    cost: Cost
    about: dict[str, Any]


def prepare(options: Options) -> Prepared:
    """Everything that can be known before the first attack; a ValueError says what cannot be worked with. Writes nothing that stays."""
    _check_libraries(options)
    defence = load(
        options.defence, images=options.data, weights=options.weights, classes=options.classes, mean=options.mean, std=options.std
    ).to(options.device)
    x = preconditions.check_images(defence.x, defence.y)  # all of them: what is cut to one length no longer shows that it had two
    count = len(x) if options.images is None else options.images
    if count > len(x):
        raise ValueError(f"--images must be at most {len(x)}, the number of images of {defence.dataset}; got {count}")
    x, y = x[:count], defence.y[:count].long()
    defence = replace(defence, x=x, y=y)
    batch = min(options.batch_size or CHUNK, CHUNK)
    sliced = batch < min(CHUNK, len(x))
    try:
        preconditions.examine(defence.model, x[:batch], y[:batch], allow_random=options.allow_random, sliced=sliced)
    except ValueError as error:
        raise ValueError(f"{error}{_channels_last(x)}") from error
    with frozen(defence.model), torch.no_grad():
        classes = defence.model(x[:1]).shape[1]
    chosen, _ = possible(chosen_suites(options.suites, defence.model, x[:1], options.norm, **_loss(options)), classes)
    if "standard" in chosen:
        autoattack.check(defence.model, x[:1], y[:1], options.eps, options.norm)
    caution = _at_chance(defence, classes, batch)
    for name, path in (("--html", options.html), ("--json", options.json)):
        _check_writable(name, path)
    writable(options.folder)
    about = {
        "name": _name(options), "dataset": defence.dataset, "architecture": type(defence.model).__name__,
        "reported": None if options.reported is None else f"{options.reported:g}", "number_of_classes": classes,
        "parameters": sum(parameter.numel() for parameter in defence.model.parameters()), "weights_file": defence.weights,
        "cautions": [] if caution is None else [caution],
    }  # fmt: skip
    cost = estimate(defence.model, x, y, chosen, eps=options.eps, batch=batch)
    return Prepared(options, defence, chosen, cost, about)


def _channels_last(x: torch.Tensor) -> str:
    """What to add to an error if the images may have their channels last, which no check can know."""
    if x.shape[-1] in (1, 3) and x.shape[1] not in (1, 3):
        return "; images (N, H, W, C) become (N, C, H, W) by x.permute(0, 3, 1, 2)"
    return ""


def _check_writable(name: str, path: Path | None) -> None:
    """A ValueError if the file of the option `name` cannot be written; nothing stays."""
    if path is None:
        return
    trial = path.with_name(f".{path.name}.writable")
    try:
        files.write_bytes(trial, b"").unlink(missing_ok=True)
    except ResultsError as error:
        raise ValueError(f"{name}: {str(error).replace(str(trial), str(path))}") from error


def _check_libraries(options: Options) -> None:
    """A ValueError if an attack goes through a library that the package cannot bring, and that is not installed."""
    there = [name for name in SUITES if options.norm == "linf" or name not in LINF_ALONE]
    if needing := [name for name in options.suites or there if name in THROUGH_TORCHATTACKS]:
        try:
            library("torchattacks")
        except ImportError as error:
            others = ",".join(name for name in there if name not in THROUGH_TORCHATTACKS)
            raise ValueError(f"suite {needing[0]!r}: {error}; or leave it out, as in --suites {others}") from error


def _name(options: Options) -> str:
    """The defence as the report calls it: of a file, without the folders above it."""
    where, _, function = options.defence.rpartition(":")
    return options.name or f"{Path(where).name}:{function}"


def _loss(options: Options) -> dict[str, Any]:
    return {} if options.training_loss is None else {"training_loss": options.training_loss}


def _at_chance(defence: Defence, classes: int, batch: int) -> str | None:
    """A caution if the model's clean answers are no better than guessing; a ValueError if they are worse, or none is right."""
    n, right = len(defence.y), int((predict(defence.model, defence.x, batch) == defence.y).sum())
    low, high = wilson(right, n)
    if right == 0:
        raise ValueError(f"the model gets none of the {n} images right, so there is nothing to attack: {ADVICE}")
    if high < 1 / classes:
        raise ValueError(f"the model gets {right} of {n} clean images right, fewer than by guessing among {classes} classes: {ADVICE}")
    if low > 1 / classes:
        return None
    return f"the model gets {right} of {n} clean images right, no more than guessing among {classes} classes: {ADVICE}"


def run(prepared: Prepared) -> tuple[Report, MaskingReport | None]:
    """The evaluation, and the nine checks if they were asked for; what is wanted is written, each file whole or not at all."""
    options, defence = prepared.options, prepared.defence
    with whole_run(defence.model, prepared.cost.passes):
        report = evaluate(
            defence.model, defence.x, defence.y, eps=options.eps, norm=options.norm, suites=options.suites, folder=options.folder,
            seed=options.seed, batch_size=options.batch_size, allow_random=options.allow_random, about=prepared.about, mode=options.mode,
            **_loss(options),
        )  # fmt: skip
    report = replace(report, taken=None)  # as `Report.write`: the files do not tell how often a run was stopped
    _write(options, report, None)
    found = None if options.masking is None else _masking(options, defence, report)
    if found is not None:
        _write(options, report, found)
    return report, found


def _write(options: Options, report: Report, found: MaskingReport | None) -> None:
    """The files that were asked for. Attacks are told of before the nine checks begin, which may be stopped or fail."""
    if options.json is not None:
        files.write_json(options.json, html_report.record(report, found))
    if options.html is not None:
        files.write_bytes(options.html, html_report.page(report, found).encode())


def _masking(options: Options, defence: Defence, report: Report) -> MaskingReport:
    loss = options.training_loss or "ce"
    settings = masking.preset(options.masking or "quick", training_loss=loss, seed=options.seed)
    nets: Mapping[str, torch.nn.Module] = {}
    if defence.dataset in SPECS:
        kept = None if options.folder is None else options.folder / "pieces" / "substitutes"
        print(f"training networks to transfer attacks from, {options.substitute_steps} steps each", file=sys.stderr)
        nets = substitutes.for_data(defence.model, defence.dataset, eps=options.eps, loss=loss, folder=kept, steps=options.substitute_steps)
    return masking.report(
        defence.model, defence.x, defence.y, eps=options.eps, evaluated=report, substitutes=nets, settings=settings,
        folder=options.folder, about={"name": _name(options), "dataset": defence.dataset}, progress=True,
    )  # fmt: skip


def beginning(prepared: Prepared) -> str:
    """What is said before the first attack: what is tested, on what, at which cost; and cautions."""
    defence, about = prepared.defence, prepared.about
    lines = [
        f"{about['name']}: {about['architecture']} with {about['parameters']:,} parameters, {about['number_of_classes']} classes; "
        f"{len(defence.y)} images of shape {tuple(defence.x.shape[1:])} ({defence.dataset})",
        prepared.cost.words,
    ]
    if prepared.options.masking is not None:
        lines.append(f"the nine checks for masked gradients ({prepared.options.masking}) come on top")
    return "\n".join([*lines, *(f"caution: {text}" for text in about["cautions"])])


def result(report: Report, found: MaskingReport | None) -> str:
    """What is said at the end: both accuracies with intervals, what warned, which checks failed or had no power."""
    summary = report.summary()
    shares = {name: "{:.1f} [{:.1f}, {:.1f}] %".format(*(100 * summary[name][k] for k in ("accuracy", "low", "high"))) for name in PARTS}
    lines = [
        f"clean accuracy  {shares['clean']}",
        f"robust accuracy {shares['worst_case']}, n = {summary['n']}: per-image worst case over {len(summary['attacks'])} attacks, "
        f"{summary['norm']} eps = {summary['robustbench']['eps']}; 95 % intervals over images",
    ]
    lines += [f"warning ({warning['part']}): {warning['message']}" for warning in summary["warnings"]]
    if found is not None:
        lines += [f"check {check.number}, {check.title}: {check.verdict}" for check in found.checks]
    return "\n".join(lines)


PARTS = ("clean", "worst_case")


def spent(report: Report) -> str:
    """What the attacks of a report took, in words."""
    costs = [outcome.cost for outcome in report.outcomes.values()]
    forward, seconds = (sum(cost[name] for cost in costs) for name in ("forward", "seconds"))
    return f"{forward:,} forward passes in {duration(seconds)}"

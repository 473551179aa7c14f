"""The one training loop: batches, schedule, λ by warm-up or in a closed loop, validation, selection, checkpoints, resume.

`fit` knows nothing of any defence; it calls an objective (see `deepdefense.objectives`). On a CPU the weights depend only on
the configuration and the number of threads, also when the run was killed and started again.
"""

import math
import sys
import time
import warnings
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from .. import cost, data, objectives
from ..inference import pick_device, seeded
from ..objectives import closed_loop
from ..storage import checkpoint, files, paths, provenance
from . import allocator, averaging, given, precision, resume, validation
from .config import TrainConfig, reference
from .cuda_graph import GraphedStep, why_not
from .resume import Progress, Training
from .runs import Run, build_model
from .step import TrainingStep, make_optimizer


def learning_rate(config: TrainConfig, progress: float) -> float:
    """Learning rate when the share `progress` in [0, 1] of all steps is done: cosine to 0, or constant."""
    return config.lr * (0.5 * (1 + math.cos(math.pi * progress)) if config.schedule == "cosine" else 1.0)


def warmed_lam(config: TrainConfig, progress: float) -> float:
    """λ at `progress` in [0, 1]: rises linearly from 0 over the first `warmup` of the run, then stays."""
    return config.lam * (min(1.0, progress / config.warmup) if config.warmup > 0 else 1.0)


def _train_epoch(training: Training, epoch: int, seed: int, bar) -> dict:
    """One pass over the images: the mean of what the objective logs, and `finite`. A CPU stops at the first loss that is not finite."""
    config, model, train = training.config, training.model, training.dataset.train
    training.generator.manual_seed(seed)
    sums: dict[str, torch.Tensor] = {}
    model.train()
    stream = data.batches(train, config.batch_size, generator=training.generator, augment=config.augment)
    for index, (x, y) in enumerate(stream):
        progress = (epoch + index / training.steps) / config.epochs
        lam = warmed_lam(config, progress) if training.loop is None else training.loop.lam
        log = training.step(x, y, lam, learning_rate(config, progress), training.generator)
        if log is None:
            return {"finite": False}
        if training.loop is not None:
            training.loop.update(log, progress)
        if training.average is not None:
            training.average.update_parameters(model)
        for key, value in log.items():
            sums[key] = sums.get(key, 0.0) + value * len(y)
        bar.update()
    means = {f"train_{key}": float(total) / len(train) for key, total in sums.items()}
    finite = all(map(math.isfinite, means.values())) and all(p.isfinite().all() for p in model.parameters())
    return {**means, "finite": True} if finite else {"finite": False}


def _weight(training: Training, progress: float) -> dict:
    """λ as it is now, and what is asked of it in a closed loop."""
    if training.loop is None:
        return {"lam": warmed_lam(training.config, progress)}
    return {"lam": training.loop.lam.item(), "goal": closed_loop.goal(training.loop.target, progress)}


def _epoch(training: Training, so_far: Progress, bar) -> None:
    """Train and validate once more, append the row to the history, keep the weights if they are the best so far."""
    config, model, dataset = training.config, training.network, training.dataset
    epoch, start = len(so_far.history), time.perf_counter()
    seed = config.seed * 100_003 + epoch  # no state of a generator outlives an epoch, so none has to be saved
    with seeded(dataset.train.y.device, seed):  # for what draws globally, such as dropout
        row = {"epoch": epoch + 1, **_train_epoch(training, epoch, seed, bar)}
    train_seconds = time.perf_counter() - start
    if row["finite"]:
        row |= {**_weight(training, (epoch + 1) / config.epochs), **validation.validate(config, model, dataset.val, dataset.train)}
    if not row["finite"]:  # though the weights may be
        row = {"epoch": epoch + 1, "finite": False}
    if row["finite"]:
        score = validation.score(config, row)
        if so_far.best is None or score > so_far.best["score"]:
            so_far.best = {"epoch": epoch + 1, "score": score}
            so_far.best_weights = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
        clean, robust = f"{row['val_accuracy']:.3f}", f"{row['val_robust_accuracy']:.3f}"
        bar.set_postfix(clean=clean, robust=robust, refresh=False)
    so_far.history.append(row | {"train_seconds": train_seconds, "seconds": time.perf_counter() - start})


def _starting_model(config: TrainConfig, dataset: data.Dataset, folder, device: str, progress: bool) -> nn.Module:
    """Where training starts: fresh weights, or the last ones of plain training, which is kept in a folder beside `folder`."""
    finished = folder is not None and (Path(folder) / "run.json").exists()
    if config.start == "fresh" or finished:
        return build_model(config, dataset)
    plain = reference(config)
    beside = None if folder is None else Path(folder).parent / plain.name()
    return fit(plain, folder=beside, dataset=dataset, device=device, progress=progress).last


def fit(
    config: TrainConfig,
    *,
    folder: str | Path | None = None,
    dataset: data.Dataset | None = None,
    objective: Callable | None = None,
    model: nn.Module | None = None,
    device: str = "auto",
    progress: bool = True,
    cuda_graph: bool = False,
) -> Run:
    """Train `config` and return the run; with a `folder`, keep checkpoints there and go on where a killed run stopped.

    dataset, model, objective: used in place of the ones that the configuration names (`model` is trained in place, with `config.ema`
    the run's two are averages of it; the caller answers for its first weights being the same at a resume). A folder belongs to
    them: a ValueError if it holds a run on other images, with another objective (told by its code and all it holds, as it is before
    training) or a model of other code. A run that is finished already is read back, not repeated, and one that is unfinished goes on
    only with the code that began it (see `deepdefense.training.resume`). One process trains in a folder at a time.
    cuda_graph: replay each training step as one CUDA graph (see `deepdefense.training.cuda_graph`); where that cannot be, a
    warning names the reason, the run goes on without, and record["cuda_graph"] keeps both.
    record["status"] is "finished", "collapsed" (validation accuracy at chance at the end) or "diverged" (loss not finite);
    record["stopped_epoch"] is the epoch at which it was stopped for that, if it was (see `validation.stopped`).
    """
    given.check(config, dataset, objective, model)
    folder, target = paths.given(folder), pick_device(device)
    own = resume.own_parts(objective, model) if folder is not None else {}
    precision.check(config.precision, target)
    code = resume.code(config)
    environment = provenance.environment(target)  # of the code that runs, not of a commit made meanwhile
    dataset = (dataset or data.load(config.data)).to(target)
    if model is None:
        model = _starting_model(config, dataset, folder, device, progress)
    fingerprint = dataset.fingerprint()
    if config.train_size is not None:
        if config.train_size > len(dataset.train):
            raise ValueError(f"train_size must be at most {len(dataset.train)} for {config.data}; got {config.train_size}")
        dataset = replace(dataset, train=dataset.train[: config.train_size])
    objective = objective or objectives.build(config.objective, config.options)
    model = model.to(target)
    plain, graphed = _make_step(config, model, objective, target, cuda_graph)
    training = Training(
        config=config,
        dataset=dataset,
        objective=objective,
        model=model,
        step=graphed or plain,
        optimizer=plain.optimizer,
        generator=torch.Generator(target),
        average=None if config.ema is None else averaging.averaged(model, config.ema),
        loop=None if config.target is None else closed_loop.ClosedLoop(config.target, target, config.lam or closed_loop.START),
        fingerprint=fingerprint,
        own=own,
        code=code,
        folder=folder,
    )
    allocator.keep_for_reuse()

    with resume.only_one(folder):
        finished = folder is not None and (folder / "run.json").exists()
        so_far = resume.restore(training, folder, finished=finished) if folder else Progress([])
        if folder and finished:
            return Run(files.read_json(folder / "run.json"), training.network.eval(), _selected(training.network, so_far), folder)
        so_far.begin(environment)
        _epochs(training, so_far, progress)
        selected = _selected(training.network, so_far)
        record = _record(training, selected, so_far)
        if cuda_graph:
            reason = why_not(target) if graphed is None else graphed.reason
            record["cuda_graph"] = {"steps_replayed": graphed.replayed if graphed else 0, "reason_against": reason}
        if folder:
            files.write_json(folder / "run.json", record)
    return Run(record, training.network.eval(), selected, folder)


def _epochs(training: Training, so_far: Progress, progress: bool) -> None:
    """Train on to the last epoch, or until it is stopped; with a folder, all is on disk after each."""
    config = training.config
    with tqdm(
        total=config.epochs * training.steps,
        initial=len(so_far.history) * training.steps,
        desc=config.objective,
        unit="step",
        disable=not progress,
        mininterval=0.5 if sys.stderr.isatty() else 20,
    ) as bar:
        while len(so_far.history) < config.epochs and not validation.stopped(config, so_far.history, training.dataset.val.y):
            _epoch(training, so_far, bar)
            if training.folder:
                resume.save(training, training.folder, so_far)


def _make_step(config, model, objective, device, cuda_graph) -> tuple[TrainingStep, GraphedStep | None]:
    """The training step, and the one that replays it if that is asked for and can be."""
    reason = why_not(device) if cuda_graph else None
    if reason:
        warnings.warn(f"no CUDA graph: {reason}", stacklevel=3)
    usable = cuda_graph and not reason
    step = TrainingStep(model, make_optimizer(config, model, on_device=usable), objective, config.precision)
    return step, GraphedStep(step) if usable else None


def _selected(model: nn.Module, so_far: Progress) -> nn.Module:
    """A copy of `model` with the weights of the best epoch (its own if no epoch ended with a finite loss), in eval mode."""
    selected = deepcopy(model)
    if so_far.best_weights:
        selected.load_state_dict(so_far.best_weights)
    return selected.eval()


def _record(training: Training, selected: nn.Module, so_far: Progress) -> dict:
    config, dataset, model = training.config, training.dataset, training.network
    status, fallen = validation.status(config, so_far.history)
    x, y = dataset.train[:32].images(), dataset.train.y[:32]
    last_step = objectives.Step(config.lam, torch.Generator(x.device).manual_seed(0))
    return {
        "kind": "training",
        "name": config.name(),
        "status": status,
        "collapse_epochs": fallen,
        "stopped_epoch": len(so_far.history) if len(so_far.history) < config.epochs else None,  # the last, if there should be more
        "config": checkpoint.canonical(config.to_dict()),
        "code": training.code,
        "data": {
            "fingerprint": training.fingerprint,
            "train": len(dataset.train),
            "val": len(dataset.val),
            "test": len(dataset.test),
            "val_alignment": len(dataset.val[: config.val_size]),  # images that the alignments of the history are of
            "train_subset_alignment": len(dataset.train[: validation.SUBSET]),
            "in_shape": list(dataset.in_shape),
            "classes": list(dataset.classes),
        },
        "parameters": sum(p.numel() for p in model.parameters()),
        "cost": cost.step_cost(model, lambda twin: training.objective(twin, x, y, last_step)[0], x),
        "wall_time_s": sum(row["seconds"] for row in so_far.history),
        "train_time_s": sum(row["train_seconds"] for row in so_far.history),
        "best_epoch": so_far.best["epoch"] if so_far.best else None,
        "metrics": {
            "last": validation.test_metrics(config, model, dataset.test) if status != "diverged" else None,
            "best": validation.test_metrics(config, selected, dataset.test) if so_far.best else None,
        },
        "checkpoints": {"last": so_far.last, "best": so_far.best},
        "history": so_far.history,
        "environment": so_far.environment,
        "resumed": so_far.resumed,
    }

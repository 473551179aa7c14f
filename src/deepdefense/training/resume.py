"""What a training has so far: kept in its folder after each epoch, with what it was made from, and taken up again from there.

A training goes on only with the configuration, the images and the code that it was begun with. Code is told by the content of
the files that training depends on: after a change, an unfinished training is begun anew, and a finished one is still read
back, with a notice. An objective or a model of the caller's own is told by its source and all it holds, weights of a model aside.
"""

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from .. import data, objectives
from ..objectives.closed_loop import ClosedLoop
from ..storage import checkpoint, code_files, files
from ..storage.identity import function_fingerprint
from .config import LATER_FIELDS, TrainConfig

TRAINED = "trained."  # key of the weights themselves in a checkpoint whose "model." is their average

# What training imports without its results depending on it: the registry, the checks of arguments, the records.
WITHOUT = (
    "deepdefense.training.config",
    "deepdefense.objectives",
    "deepdefense.arguments",
    "deepdefense.storage.paths",
    "deepdefense.storage.files",
    "deepdefense.storage.provenance",
    "deepdefense.storage.code_files",
    "deepdefense.storage.identity",
)


def own_files(config: TrainConfig) -> tuple[Path, ...]:
    """Our files that the training `config` depends on: of its own objective, and of the plain one if it starts from that."""
    names = {config.objective} | ({"standard"} if config.start == "plain" else set())
    functions = [objectives.OBJECTIVES[name] for name in sorted(names)]
    own = [getattr(function, "func", function).__module__ for function in functions]
    return code_files.files_of("deepdefense.training.loop", *own, without=WITHOUT)


def code(config: TrainConfig) -> str:
    """Sixteen hexadecimal digits that change with those files."""
    return code_files.fingerprint(own_files(config))


@dataclass(frozen=True)
class Training:
    """What a training works with from its first step to its last: the parts that its functions share."""

    config: TrainConfig
    dataset: data.Dataset  # cut to config.train_size, on the training device
    objective: Callable
    model: nn.Module
    step: Callable  # a TrainingStep, or the GraphedStep that replays it
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    average: AveragedModel | None  # of the weights, if that is the network that is judged and kept
    loop: ClosedLoop | None  # which λ follows, or None for a schedule
    fingerprint: str  # of the whole data set
    own: dict[str, str | None]  # of the caller's own "objective" and "model", None where the configuration's are used
    code: str
    folder: Path | None

    @property
    def steps(self) -> int:
        """Of an epoch."""
        return math.ceil(len(self.dataset.train) / self.config.batch_size)

    @property
    def network(self) -> nn.Module:
        """What is judged, kept and handed over: the model, or the average of its weights."""
        return self.model if self.average is None else self.average.module


def own_parts(objective: Callable | None, model: nn.Module | None) -> dict[str, str | None]:
    """What tells the caller's own objective and model from others; of a model its code, not the weights that training will change."""
    classes = model and tuple((name, type(module)) for name, module in model.named_modules())
    given = {"objective": objective, "model": classes}
    return {name: None if part is None else function_fingerprint(part) for name, part in given.items()}


@dataclass
class Progress:
    """What `fit` has so far; with a folder, all of it is on disk after each epoch."""

    history: list[dict]
    best: dict | None = None  # {"epoch", "score", and with a folder "file", "sha256"}
    best_weights: dict[str, torch.Tensor] = field(default_factory=dict)  # on the CPU; empty without a best epoch
    last: dict | None = None  # {"file", "sha256"}
    environment: dict | None = None  # where it was begun
    resumed: list[dict] = field(default_factory=list)  # date, commit and device of each time it was taken up again
    unfinished: bool = True

    def begin(self, environment: dict) -> None:
        """Note where this part of the training runs."""
        if self.environment is None:
            self.environment = environment
        elif self.unfinished:
            self.resumed.append({key: environment[key] for key in ("date", "commit", "device")})


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextmanager
def only_one(folder: Path | None) -> Iterator[None]:
    """Wait until no other process trains in `folder`, and keep others out; the kernel lets go of it if this one is killed."""
    if folder is None:
        yield
        return
    import fcntl

    with files.writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / ".lock", "a")
    with lock as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            _say(f"another process is training {folder.name}; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def restore(training: Training, folder: Path, *, finished: bool) -> Progress:
    """The progress kept in `folder`, the training's, with model and optimizer put where they were; a fresh one if there is none.

    ValueError if it is of another configuration, of other images, or of another objective or model of one's own; CheckpointError if
    it is damaged, or if the run is `finished` (its record is there) but its weights are not.
    """
    config = training.config
    state = checkpoint.read_state(folder)
    if state is None:
        if finished:
            raise checkpoint.CheckpointError(f"{folder} holds a finished run's record without its weights; delete it to train anew")
        return Progress([])
    if state["fingerprint"] != training.fingerprint:
        raise ValueError(f"{folder} holds a run on other images of {config.data}; use another folder or delete it")
    for name, given in training.own.items():
        if given != state.get("own", {}).get(name):
            raise ValueError(f"{folder} holds a run with another {name} than the one given; use another folder or delete it")
    wanted, held = (checkpoint.canonical(settings) for settings in (config.to_dict(), {**LATER_FIELDS, **state["config"]}))
    for key in wanted:
        if wanted[key] != held.get(key):
            raise ValueError(f"{folder} holds a run with {key} = {held.get(key)!r}, not {wanted[key]!r}; use another folder or delete it")
    if state.get("code") != training.code:
        if not finished:
            _say(f"the code of training has changed since {folder.name} was begun; it is trained anew")
            return Progress([])
        _say(f"note: the code of training has changed since {folder.name} was trained; delete its folder to train it anew")
    tensors = checkpoint.load_tensors(folder, state["last"])
    checkpoint.unpack(tensors, state["scalars"], training.network, training.optimizer)
    if training.average is not None:
        training.average.n_averaged.fill_(1)  # all that the rule asks is whether the first step was taken
        trained = {key.removeprefix(TRAINED): value for key, value in tensors.items() if key.startswith(TRAINED)}
        training.model.load_state_dict(trained)
    if training.loop is not None:
        training.loop.restore(state["loop"])
    best = state["best"]
    best_weights = checkpoint.load_tensors(folder, best) if best else {}
    checkpoint.tidy(folder, state)
    whole = len(state["history"]) == config.epochs
    begun = dict(environment=state.get("environment"), resumed=state.get("resumed", []), unfinished=not whole)
    return Progress(state["history"], best, best_weights, state["last"], **begun)


def save(training: Training, folder: Path, so_far: Progress) -> None:
    """Put everything that `restore` needs into `folder`; a kill before the end leaves the state of the epoch before."""
    epoch = len(so_far.history)
    if so_far.best and so_far.best["epoch"] == epoch:
        so_far.best |= checkpoint.save_tensors(folder, f"best-{epoch:04d}", so_far.best_weights)
    tensors, scalars = checkpoint.pack(training.network, training.optimizer)
    if training.average is not None:  # the weights that training goes on with, beside the network that readers take
        tensors |= {f"{TRAINED}{key}": value for key, value in training.model.state_dict().items()}
    state: dict = {"config": training.config.to_dict(), "fingerprint": training.fingerprint, "code": training.code, "own": training.own}
    state |= {"history": so_far.history, "best": so_far.best, "environment": so_far.environment}
    state |= {"resumed": so_far.resumed, "scalars": scalars}
    if training.loop is not None:
        state["loop"] = training.loop.state()
    so_far.last = checkpoint.write_state(folder, state, tensors, epoch)["last"]

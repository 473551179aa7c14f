"""What a training has so far: kept in its folder after each epoch, with what it was made from, and taken up again from there.

A training goes on only with the configuration, the images and the code that it was begun with. Code is told by the content of
the files that training depends on: after a change, an unfinished training is begun anew, and a finished one is still read
back, with a notice.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from .. import objectives
from ..storage import checkpoint, code_files
from .config import LATER_FIELDS, TrainConfig

# What training imports without its results depending on it: the registry, the checks of arguments, the records.
WITHOUT = (
    "deepdefense.training.config",
    "deepdefense.objectives",
    "deepdefense.arguments",
    "deepdefense.storage.paths",
    "deepdefense.storage.files",
    "deepdefense.storage.provenance",
    "deepdefense.storage.code_files",
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


@dataclass
class Progress:
    """What `fit` has so far; with a folder, all of it is on disk after each epoch."""

    history: list[dict]
    best: dict | None = None  # {"epoch", "score", and with a folder "file", "sha256"}
    best_weights: dict[str, torch.Tensor] | None = None  # on the CPU
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

    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            _say(f"another process is training {folder.name}; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def restore(folder: Path, config: TrainConfig, fingerprint: str, code: str, model: nn.Module, optimizer, *, finished: bool) -> Progress:
    """The progress kept in `folder`, with `model` and `optimizer` put where they were; a fresh one if there is none.

    ValueError if it is of another configuration or of other images; CheckpointError if it is damaged, or if the run is
    `finished` (its record is there) but its weights are not.
    """
    state = checkpoint.read_state(folder)
    if state is None:
        if finished:
            raise checkpoint.CheckpointError(f"{folder} holds a finished run's record without its weights; delete it to train anew")
        return Progress([])
    if state["fingerprint"] != fingerprint:
        raise ValueError(f"{folder} holds a run on other images of {config.data}; use another folder or delete it")
    wanted, held = (checkpoint.canonical(settings) for settings in (config.to_dict(), {**LATER_FIELDS, **state["config"]}))
    for key in wanted:
        if wanted[key] != held.get(key):
            raise ValueError(f"{folder} holds a run with {key} = {held.get(key)!r}, not {wanted[key]!r}; use another folder or delete it")
    if state.get("code") != code:
        if not finished:
            _say(f"the code of training has changed since {folder.name} was begun; it is trained anew")
            return Progress([])
        _say(f"note: the code of training has changed since {folder.name} was trained; delete its folder to train it anew")
    checkpoint.unpack(checkpoint.load_tensors(folder, state["last"]), state["scalars"], model, optimizer)
    best = state["best"]
    best_weights = checkpoint.load_tensors(folder, best) if best else None
    checkpoint.tidy(folder, state)
    whole = len(state["history"]) == config.epochs
    begun = dict(environment=state.get("environment"), resumed=state.get("resumed", []), unfinished=not whole)
    return Progress(state["history"], best, best_weights, state["last"], **begun)


def save(folder: Path, config: TrainConfig, fingerprint: str, code: str, so_far: Progress, model: nn.Module, optimizer) -> None:
    """Put everything that `restore` needs on disk; a kill before the end leaves the state of the epoch before."""
    epoch = len(so_far.history)
    if so_far.best and so_far.best["epoch"] == epoch:
        so_far.best |= checkpoint.save_tensors(folder, f"best-{epoch:04d}", so_far.best_weights)
    tensors, scalars = checkpoint.pack(model, optimizer)
    state = {"config": config.to_dict(), "fingerprint": fingerprint, "code": code, "history": so_far.history}
    state |= {"best": so_far.best, "environment": so_far.environment, "resumed": so_far.resumed, "scalars": scalars}
    so_far.last = checkpoint.write_state(folder, state, tensors, epoch)["last"]

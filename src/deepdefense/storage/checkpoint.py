"""Checkpoints: tensors as safetensors, everything else as JSON beside them with their sha256. No pickle.

The JSON is replaced only after the new tensors are on disk under a new name, so a kill at any moment leaves a whole pair.
"""

import hashlib
import json
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from .files import ResultsError, clear_partial, read_json, write_bytes, write_json

ADVICE = "Restore it, or delete its folder to train anew."


class CheckpointError(RuntimeError):
    """A checkpoint is missing or damaged; the message names the file and what to do."""


def save_tensors(folder: Path, name: str, tensors: dict[str, Tensor]) -> dict:
    """Write `tensors` as `<name>.safetensors` in `folder`; returns {"file", "sha256"} for the record."""
    content = safetensors.torch.save({key: t.detach().cpu().contiguous().clone() for key, t in tensors.items()})
    write_bytes(Path(folder) / f"{name}.safetensors", content)
    return {"file": f"{name}.safetensors", "sha256": hashlib.sha256(content).hexdigest()}


def load_tensors(folder: Path, entry: dict) -> dict[str, Tensor]:
    """The tensors that `save_tensors` recorded as `entry`, on the CPU; CheckpointError if one bit is different."""
    path = Path(folder) / entry["file"]
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"checkpoint {path} cannot be read: {error.strerror}") from error
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise CheckpointError(f"checkpoint {path} is damaged: it does not match its sha256. {ADVICE}")
    return safetensors.torch.load(content)


def pack(model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict]:
    """(tensors, JSON part) of the whole training state."""
    tensors = {f"model.{key}": value for key, value in model.state_dict().items()}
    scalars: dict[str, dict] = {}
    for index, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{key}"] = value
            else:
                scalars.setdefault(str(index), {})[key] = value
    return tensors, scalars


def model_weights(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The model's part of a saved state: of a whole one (keys "model.*") or of weights alone."""
    packed = {key.removeprefix("model."): t for key, t in tensors.items() if key.startswith("model.")}
    return packed or tensors


def unpack(tensors: dict[str, Tensor], scalars: dict, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put a state from `pack` back into `model` and `optimizer`, which are of the same shape."""
    model.load_state_dict(model_weights(tensors))
    state: dict[int, dict] = {int(index): dict(values) for index, values in scalars.items()}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def write_state(folder: Path, state: dict, tensors: dict[str, Tensor], epoch: int) -> dict:
    """Save the state after `epoch`, then drop the tensor files that it no longer names. Returns the completed state."""
    folder = Path(folder)
    state = canonical({**state, "last": save_tensors(folder, f"last-{epoch:04d}", tensors)})
    write_json(folder / "state.json", {**state, "sha256": _digest(state)})
    tidy(folder, state)
    return state


def tidy(folder: Path, state: dict) -> None:
    """Remove tensor files that `state` does not name, and what a kill in the middle of writing left."""
    named = {state["last"]["file"], (state.get("best") or {}).get("file")}
    for path in Path(folder).glob("*.safetensors"):
        if path.name not in named:
            path.unlink()
    clear_partial(folder)


def damage(folder: Path) -> str | None:
    """What is wrong with the newest checkpoint in `folder`, in words; None if every bit of it is there."""
    try:
        state = read_state(folder)
        if state is None:
            return f"{folder} holds no checkpoint"
        for entry in (state["last"], state.get("best")):
            if entry:
                load_tensors(folder, entry)
    except CheckpointError as error:
        return str(error).removesuffix(ADVICE).rstrip(" .")
    return None


def read_state(folder: Path) -> dict | None:
    """The JSON part of the newest state in `folder`, or None if there is none; CheckpointError if it is damaged."""
    path = Path(folder) / "state.json"
    if not path.exists():
        return None
    try:
        state = read_json(path)
        whole = state.pop("sha256", None) == _digest(state)
    except ResultsError:
        whole = False
    if not whole:
        raise CheckpointError(f"checkpoint {path} is damaged. {ADVICE}")
    return state


def _digest(state: dict) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def canonical(value):
    """`value` as it looks after a round trip through JSON (tuples become lists), for comparing configurations."""
    return json.loads(json.dumps(value))

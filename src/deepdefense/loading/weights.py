"""A file of weights, as torch or safetensors write it, into a network that somebody else built."""

import pickle
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

WRAPPERS = ("state_dict", "model_state_dict", "model")  # under which training scripts put a state dict beside other things
PARALLEL = "module."  # what DataParallel puts before every name
SHOWN = 3  # names in a message


def read(path: str | Path) -> dict[str, Tensor]:
    """The state dict in `path`, on the CPU: a .safetensors file, or what `torch.save` wrote; read without running any code.

    One that lies under "state_dict", "model_state_dict" or "model" beside other things is taken out, and names that all begin
    with "module." lose that. A ValueError names the file and what is wrong with it.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise ValueError(f"weights must be a .safetensors file or one that torch.save wrote; there is no file {path}")
    try:
        if path.suffix == ".safetensors":
            found = safetensors.torch.load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except (safetensors.SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"weights: {path} cannot be read as a state dict ({said}); save one with torch.save(model.state_dict(), path) or "
            "safetensors.torch.save_file(model.state_dict(), path)"
        ) from error
    return _state_dict(found, path)


def _state_dict(found: object, path: Path) -> dict[str, Tensor]:
    if isinstance(found, Mapping):
        inner = next((found[name] for name in WRAPPERS if isinstance(found.get(name), Mapping)), found)
        if inner and all(isinstance(name, str) and isinstance(value, Tensor) for name, value in inner.items()):
            shared = all(name.startswith(PARALLEL) for name in inner)
            return {name.removeprefix(PARALLEL) if shared else name: value for name, value in inner.items()}
    kind = f"a dictionary with {', '.join(map(repr, list(found)[:SHOWN]))}" if isinstance(found, Mapping) else f"a {type(found).__name__}"
    raise ValueError(f"weights: {path} must hold a state dict, {{name: tensor}}, and holds {kind}")


def classes(network: nn.Module, state: Mapping[str, Tensor]) -> int | None:
    """How many classes the weights tell apart, by the last bias of `network`, which may have another number of them; None if unknown."""
    last = list(network.state_dict())[-1]  # of the network: a file of safetensors has names in order of the alphabet
    return len(state[last]) if last.endswith("bias") and last in state and state[last].dim() == 1 else None


def fill(network: nn.Module, state: Mapping[str, Tensor], path: str | Path) -> None:
    """Put the weights into `network`, all of them; a ValueError names those that do not fit."""
    own = network.state_dict()
    missing, unknown = [name for name in own if name not in state], [name for name in state if name not in own]
    other = [
        f"{name} is {tuple(state[name].shape)} in the file and {tuple(own[name].shape)} in the network"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    wrong = [f"{kind} {_some(names)}" for kind, names in (("it lacks", missing), ("the network has no", unknown)) if names]
    wrong += [_some(other)] if other else []
    if wrong:
        raise ValueError(f"weights: {path} does not fit {type(network).__name__}: {'; '.join(wrong)}")
    network.load_state_dict(state)


def _some(names: list[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")

"""A long computation in pieces, each kept as soon as it is done: in a folder, where a killed run goes on, or in memory.

A piece is tensors and a few facts, one safetensors file, written whole or not at all. The folder's `settings.json`
says what the pieces belong to, so that pieces of another model, of other images or of other settings are never mixed
in.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import safetensors.torch
from torch import Tensor, nn

from ..evaluation.sliced_model import Sliced
from . import files, paths

Piece = tuple[dict[str, Tensor], dict]


def fingerprint(*tensors: Tensor) -> str:
    """Sixteen hexadecimal digits that change with any value, shape or type among `tensors`."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def model_fingerprint(model: nn.Module) -> str:
    """Sixteen hexadecimal digits that change with any parameter or buffer of `model`, or with its classes of
    modules."""
    while isinstance(model, Sliced):
        model = model.model
    classes = [(name, type(module).__qualname__) for name, module in model.named_modules()]
    state = model.state_dict()
    tensors = [value for value in state.values() if isinstance(value, Tensor)]
    return hashlib.sha256(f"{classes}{list(state)}{fingerprint(*tensors)}".encode()).hexdigest()[:16]


class Pieces:
    """The pieces of one computation. folder: where they are kept; None keeps them in memory.

    settings: what the computation is, as JSON; a folder that holds pieces of another one is a ValueError
    notes: kept beside the settings when the folder is begun and never compared; afterwards `self.notes` is what was
    kept
    """

    def __init__(self, folder: str | Path | None, settings: dict, notes: dict | None = None):
        self.folder = paths.given(folder)
        self.notes = notes or {}
        if self.folder is None:
            return
        settings, path = json.loads(json.dumps(settings)), self.folder / "settings.json"
        if not path.exists():
            files.write_json(path, {"settings": settings, "notes": self.notes})
            return
        kept = files.read_json(path)
        for key in {**kept["settings"], **settings}:
            before, now = kept["settings"].get(key), settings.get(key)
            if before != now:
                raise ValueError(f"{self.folder} holds results with {key} = {before!r}, not {now!r}; use another folder or delete it")
        self.notes = kept["notes"]

    def get(self, name: str, compute: Callable[[], Piece]) -> Piece:
        """The piece called `name` (a relative path): read if it is there, else computed and kept. Tensors are on the
        CPU."""
        path = None if self.folder is None else self.folder / f"{name}.safetensors"
        if path is not None and path.exists():
            return _read(path)
        tensors, facts = compute()
        tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
        if path is not None:
            files.write_bytes(path, safetensors.torch.save(tensors, metadata={"facts": json.dumps(facts)}))
        return tensors, facts


def _read(path: Path) -> Piece:
    try:
        with safetensors.safe_open(path, "pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, json.loads(file.metadata()["facts"])
    except (safetensors.SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise files.ResultsError(f"{path} is damaged ({error}); delete it, and it is computed again") from error

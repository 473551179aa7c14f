"""A long computation in pieces, each kept as soon as it is done: in a folder, where a killed run goes on, or in memory.

A piece is tensors and a few facts, one safetensors file, written whole or not at all. The folder's `settings.json`
says what the pieces belong to, so that pieces of another model, of other images or of other settings are never mixed
in.
"""

import hashlib
import json
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..evaluation.sliced_model import Sliced
from . import files, paths

Piece = tuple[dict[str, Tensor], dict]


def fingerprint(*tensors: Tensor) -> str:
    """Sixteen hexadecimal digits that change with any value, shape or type among `tensors`."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        tensor = tensor.detach().cpu()
        tensor = tensor if tensor.layout == torch.strided else tensor.to_dense()
        flat = tensor.resolve_conj().resolve_neg().contiguous().flatten()
        digest.update(flat.view(torch.uint8).numpy().tobytes())  # by bytes: numpy does not know every type of torch
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


# By how much an answer may differ, as a share of its size, before it is another model's. Logits of single images move by
# 1e-6 with the number of threads, a gradient with every kink that rounding crosses; all logits with the batch size as well.
TOLERANCES = {"logits": 1e-4, "gradient": 1e-2, "clean": 1e-3}
NAMES = {"logits": "logits on fixed images", "gradient": "input gradients", "clean": "logits on the clean images"}
STRAY = {"clean": 0.01}  # share of rows that may differ by more, as a model that quantises inside lets them


def other_answers(before: dict[str, Tensor], now: dict[str, Tensor]) -> str | None:
    """In what two models' answers (see `identity.model_answers`) differ, in words; None if they are the same but for rounding."""
    for name in sorted(before.keys() | now.keys()):
        if name not in before or name not in now or before[name].shape != now[name].shape:
            return f"its {NAMES[name]}, which are of another kind"
        rows = [answer.double() for answer in (before[name], now[name])]
        if rows[0].isnan().ne(rows[1].isnan()).any():
            return f"its {NAMES[name]}, NaN elsewhere"
        first, second = (row.nan_to_num() for row in rows)
        span = [(row.abs() if name == "gradient" else row - row.amin(1, keepdim=True)).amax(1) for row in (first, second)]
        size = torch.maximum(*span)
        share = (first - second).abs().amax(1) / torch.maximum(size, 1e-3 * size.max()).clamp(min=1e-30)
        if (share > TOLERANCES[name]).sum() > STRAY.get(name, 0) * len(share):
            return f"its {NAMES[name]}, by up to {share.max():.2g} of their size"
    return None


class Pieces:
    """The pieces of one computation. folder: where they are kept; None keeps them in memory.

    settings: what the computation is, as JSON; a folder that holds pieces of another one is a ValueError
    notes: kept beside the settings when the folder is begun and never compared; afterwards `self.notes` is what was
    kept
    answers: a model's numbers (`identity.model_answers`), compared with a tolerance: another model's are a ValueError
    """

    def __init__(
        self,
        folder: str | Path | None,
        settings: dict,
        notes: dict | None = None,
        answers: dict[str, Tensor] | None = None,
    ):
        self.folder = paths.given(folder)
        self.notes = notes or {}
        self.dates: list[str] = []  # when the pieces that were read were made
        self.count = 0
        if self.folder is None:
            return
        settings, path = json.loads(json.dumps(settings)), self.folder / "settings.json"
        kept_answers = self.folder / "settings.answers"
        if not path.exists():
            if any(_settings_of(piece, self.folder) is None for piece in self.folder.rglob("*.safetensors")):
                raise self._lost(path)
            if files.begin_json(path, {"settings": settings, "notes": self.notes, "answers": answers is not None}) and answers is not None:
                _write(kept_answers, answers, {})
        self._check(self.folder, settings, answers)  # another process may have begun the folder meanwhile
        if answers is not None and not kept_answers.exists():
            # Killed before it kept them, or of an earlier version: the names of its pieces tell its code, none is read.
            _write(kept_answers, answers, {})

    def _check(self, folder: Path, settings: dict, answers: dict[str, Tensor] | None) -> None:
        """A ValueError if the folder is of another computation or of another model; takes its notes."""
        path, kept_answers = folder / "settings.json", folder / "settings.answers"
        kept = self._belongs(path)
        mine = (_settings_of(piece, folder) == path for piece in folder.rglob("*.safetensors"))
        if kept.get("answers") and not kept_answers.exists() and any(mine):
            raise self._lost(kept_answers)
        for key in {**kept["settings"], **settings}:
            before, now = kept["settings"].get(key), settings.get(key)
            if before != now:
                raise ValueError(f"{folder} holds results with {key} = {before!r}, not {now!r}; use another folder or delete it")
        if answers is not None and kept_answers.exists():
            if difference := other_answers(self._known(kept_answers), answers):
                raise ValueError(
                    f"{folder} holds results of another model: the weights are the same, but it differs in {difference}; "
                    "use another folder or delete it"
                )
        self.notes = kept["notes"]

    def _lost(self, path: Path, why: str = "gone") -> files.ResultsError:
        """The error for a missing or damaged file without which nobody can tell of what the pieces are."""
        said = f"{path} is {why}, and nothing else tells of what the results beside it are; delete the folder {self.folder}"
        return files.ResultsError(said)

    def _belongs(self, path: Path) -> dict:
        """What the folder's settings say."""
        try:
            kept = files.read_json(path)
        except files.ResultsError as error:
            raise self._lost(path, "damaged") from error
        if not all(isinstance(kept.get(key), dict) for key in ("settings", "notes")):
            raise self._lost(path, "damaged")
        return kept

    def _known(self, path: Path) -> dict[str, Tensor]:
        """The model's answers that the folder keeps."""
        try:
            return _read(path)[0]
        except files.ResultsError as error:
            raise self._lost(path, "damaged") from error

    def get(self, name: str, compute: Callable[[], Piece]) -> Piece:
        """The piece called `name` (a relative path): read if it is there, else computed and kept. Tensors are on the
        CPU."""
        path = None if self.folder is None else self.folder / f"{name}.safetensors"
        self.count += 1
        if path is not None and path.exists():
            tensors, facts = _read(path)
            self.dates.append(facts.pop("made", None) or _modified(path))
            return tensors, facts
        tensors, facts = compute()
        tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
        if path is not None:
            _write(path, tensors, {**facts, "made": _now()})
        return tensors, facts

    def say_taken(self) -> dict | None:
        """Say on stderr what was read instead of computed, and return it: {"pieces", "of", "made": [first, last]}."""
        if self.folder is None or not self.dates:
            return None
        first, last = min(self.dates), max(self.dates)
        taken = {"pieces": len(self.dates), "of": self.count, "made": [first, last]}
        when = f"made {first}" if first == last else f"made {first} to {last}"
        tqdm.write(f"{taken['pieces']} of {taken['of']} results are read from {place(self.folder)}, {when}", file=sys.stderr)
        return taken


def all_taken(said: Iterable[dict | None]) -> dict | None:
    """Several answers of `Pieces.say_taken` as one."""
    found = [taken for taken in said if taken is not None]
    if not found:
        return None
    made = [date for taken in found for date in taken["made"]]
    return {"pieces": sum(t["pieces"] for t in found), "of": sum(t["of"] for t in found), "made": [min(made), max(made)]}


def place(folder: Path) -> str:
    """`folder` as a reader may see it: below the project's or the working directory without what is above."""
    for above in (paths.root(), Path.cwd()):
        if folder.resolve().is_relative_to(above.resolve()):
            return folder.resolve().relative_to(above.resolve()).as_posix()
    return str(folder)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _modified(path: Path) -> str:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _settings_of(piece: Path, top: Path) -> Path | None:
    """The settings that a piece somewhere below `top` belongs to, the nearest ones above it; None if there are none."""
    above = [parent for parent in piece.parents if parent.is_relative_to(top)]
    return next((parent / "settings.json" for parent in above if (parent / "settings.json").exists()), None)


def _write(path: Path, tensors: dict[str, Tensor], facts: dict) -> None:
    told = json.dumps(facts)
    files.write_bytes(path, safetensors.torch.save(tensors, metadata={"facts": told, "checksum": _checksum(tensors, told)}))


def _read(path: Path) -> Piece:
    try:
        with safetensors.safe_open(path, "pt") as file:
            tensors, known = {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}
        if known.get("checksum") != _checksum(tensors, known.get("facts", "")):
            raise ValueError("its content does not fit its checksum")
        return tensors, json.loads(known["facts"])
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise files.ResultsError(f"{path} is damaged ({error}); delete it, and it is computed again") from error


def _checksum(tensors: dict[str, Tensor], facts: str) -> str:
    """Of names, numbers and facts; safetensors itself keeps none."""
    names = sorted(tensors)
    return hashlib.sha256(f"{names}{fingerprint(*(tensors[name] for name in names))}{facts}".encode()).hexdigest()[:16]

"""Records on disk: what a run was, what came of it and where, as JSON written in one piece or not at all."""

import json
import os
import platform
import subprocess
import tempfile
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from . import paths

ATTACK_PACKAGES = ("torchattacks", "pyautoattack", "foolbox")
PACKAGES = ("torch", "torchvision", *ATTACK_PACKAGES, "numpy", "scikit-learn", "safetensors", "pyarrow")


class ResultsError(RuntimeError):
    """A record could not be written or read; the message names the file and the reason."""


def write_bytes(path: str | Path, content: bytes) -> Path:
    """Write a file through a temporary one beside it, synced and renamed: readers see the old file or the whole new one."""
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException as error:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)
        if isinstance(error, OSError):
            raise ResultsError(f"could not write {path}: {error.strerror}; an earlier file there is unchanged") from error
        raise
    return path


def clear_partial(folder: str | Path) -> None:
    """Remove what a kill in the middle of `write_bytes` left in `folder`; for the one process that writes there."""
    for path in Path(folder).glob(".*.partial"):
        path.unlink()


def write_json(path: str | Path, record: dict) -> Path:
    """Write `record` as readable JSON, atomically. NaN and infinities are refused: say None and why instead."""
    return write_bytes(path, (json.dumps(record, indent=1, allow_nan=False) + "\n").encode())


def read_json(path: str | Path) -> dict:
    """The record in `path`; ResultsError if it is not there or not whole."""
    try:
        record = json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise ResultsError(f"could not read {path}: {error}") from error
    if not isinstance(record, dict):
        raise ResultsError(f"could not read {path}: it holds no JSON object")
    return record


def commit() -> str | None:
    """Commit of the checkout, with "-dirty" if tracked files differ from it; None outside a checkout of this project."""
    if not (paths.root() / "_config.yml").is_file():
        return None
    command = ["git", "-C", str(paths.root()), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() or None
    except (OSError, subprocess.CalledProcessError):
        return None


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def environment(device: str | torch.device = "cpu") -> dict:
    """Versions, device, threads, commit and time of now: what is needed to judge and repeat a run."""
    device = torch.device(device)
    return {
        "commit": commit(),
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "python": platform.python_version(),
        "packages": {package: _installed(package) for package in PACKAGES} | {"torch": torch.__version__},
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type} ({platform.machine()})",
        "threads": torch.get_num_threads(),
    }


def load_records(folder: str | Path | None = None, kind: str | None = None) -> list[dict]:
    """All records (`*.json`) below `folder` (default: the committed results), sorted by path, each with its `path`.

    kind: only those whose "kind" is this ("training", "attacks", "search"). ResultsError if there is no such folder.
    """
    folder = paths.results_root() if folder is None else Path(folder)
    if not folder.is_dir():
        raise ResultsError(f"there are no records: {folder} is not a folder")
    records = [read_json(path) | {"path": str(path.relative_to(folder))} for path in sorted(folder.rglob("*.json"))]
    return [record for record in records if kind is None or record.get("kind") == kind]


def wilson(successes: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson score interval of a proportion (Wilson 1927), 95 % by default; (0, 1) if n is 0."""
    if n == 0:
        return 0.0, 1.0
    p, z2 = successes / n, z * z
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = z / (1 + z2 / n) * (p * (1 - p) / n + z2 / (4 * n * n)) ** 0.5
    return max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half))  # min and max with p: rounding at 0 and 1


def table(records: Iterable[dict], columns: dict[str, str]) -> list[dict]:
    """Rows {title: value} from records; a column's value is a dotted path into the record, missing ones give None."""

    def look_up(record, path):
        for key in path.split("."):
            record = record.get(key) if isinstance(record, dict) else None
        return record

    return [{title: look_up(record, path) for title, path in columns.items()} for record in records]

"""Records on disk: what a run was, what came of it and where, as JSON written in one piece or not at all."""

import json
import os
import tempfile
from pathlib import Path


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

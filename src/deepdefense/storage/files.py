"""Records on disk: what a run was, what came of it and where, as JSON written in one piece or not at all."""

import errno
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


class ResultsError(RuntimeError):
    """A record could not be written or read; the message names the file and the reason."""


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
CLOSED = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST)


def not_written(path: str | Path, error: OSError) -> str:
    """In a sentence, that `path` could not be written, why, and what to do about it."""
    said = f"could not write {path}: {error.strerror}; an earlier file there is unchanged"
    if error.errno in FULL:
        return f"{said}. Free some space and give the same command again: it goes on where it stopped"
    if error.errno in CLOSED:
        return f"{said}. Runs go to $DEEPDEFENSE_RUNS and data sets to $DEEPDEFENSE_DATA: set them to folders that can be written"
    return said


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """A ResultsError with a sentence for any failure of the file system within, which makes or changes `path`."""
    try:
        yield
    except OSError as error:
        raise ResultsError(not_written(path, error)) from error


def write_bytes(path: str | Path, content: bytes) -> Path:
    """Write a file through a temporary one beside it, synced and renamed: readers see the old file or the whole new one."""
    return _write(path, content, os.replace)


def begin_json(path: str | Path, record: dict) -> bool:
    """Write `record` as `write_json` does, unless there is a file already: of several processes, one is the first. Was it this one?"""
    try:
        _write(path, _json(record), _first)
    except _Taken:
        return False
    return True


class _Taken(Exception):
    """The name of a file is in use."""


def _first(temporary: str, path: Path) -> None:
    """Give the file `temporary` the name `path`, unless it is taken."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise _Taken from None
    except OSError:  # a file system without links
        if path.exists():
            raise _Taken from None
        os.replace(temporary, path)
        return
    os.unlink(temporary)


def _write(path: str | Path, content: bytes, name: Callable[[str, Path], None]) -> Path:
    path = Path(path).expanduser()
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        name(temporary, path)
    except BaseException as error:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)
        if isinstance(error, OSError):
            raise ResultsError(not_written(path, error)) from error
        raise
    return path


def clear_partial(folder: str | Path) -> None:
    """Remove what a kill in the middle of `write_bytes` left in `folder`; for the one process that writes there."""
    for path in Path(folder).glob(".*.partial"):
        path.unlink()


def write_json(path: str | Path, record: dict) -> Path:
    """Write `record` as readable JSON, atomically. NaN and infinities are refused: say None and why instead."""
    return write_bytes(path, _json(record))


def _json(record: dict) -> bytes:
    return (json.dumps(record, indent=1, allow_nan=False) + "\n").encode()


def read_json(path: str | Path) -> dict:
    """The record in `path`; ResultsError if it is not there or not whole."""
    advice = "restore it, or delete it to have it made again"
    try:
        record = json.loads(Path(path).expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        raise ResultsError(f"could not read {path}: {error}") from error
    except ValueError as error:
        raise ResultsError(f"could not read {path}: it is damaged or incomplete ({error}); {advice}") from error
    if not isinstance(record, dict):
        raise ResultsError(f"could not read {path}: it holds no JSON object; {advice}")
    return record

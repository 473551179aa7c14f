"""Which of a workflow's finished files are damaged: cut short, garbled, or other than their own checksum.

Snakemake sees that a file is there and how old it is, not what is in it. Paths are relative to the workflow's folder (see plan.py).
"""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pyarrow
import pyarrow.parquet
import safetensors

from deepdefense.storage import checkpoint
from deepdefense.storage.files import ResultsError, read_json, writing

BESIDE = {"report.json": "report.parquet", "measures.json": "sweep.parquet"}  # made by one job


@dataclass(frozen=True)
class Damage:
    """output: the file that its job must make again; why: in words; files: what is put aside for that."""

    output: str
    why: str
    files: tuple[Path, ...]


def _read_parquet(path: Path) -> None:
    pyarrow.parquet.read_table(path)


def _read_tensors(path: Path) -> None:
    with safetensors.safe_open(path, "pt"):  # refuses a header that does not fit the size
        pass


def _read_some(path: Path) -> None:
    if path.stat().st_size == 0:
        raise ValueError("it is empty")


READERS: Mapping[str, Callable] = {
    ".json": read_json,
    ".ipynb": read_json,
    ".parquet": _read_parquet,
    ".safetensors": _read_tensors,
}


def wrong_with(path: Path) -> str | None:
    """Why the file `path` cannot be read, or None if it can."""
    try:
        READERS.get(path.suffix, _read_some)(path)
    except (ResultsError, pyarrow.ArrowException, safetensors.SafetensorError, OSError, ValueError) as error:
        return " ".join(str(error).split())
    return None


def _outputs(document: dict) -> Iterator[str]:
    """All files that the jobs of plan.json make."""
    yield from (f"data/{name}.json" for name in document["datasets"])
    yield from (f"runs/{name}/run.json" for name in document["runs"])
    yield from (f"book/{name}.ipynb" for name in document["pages"])
    yield "_build/html/index.html"
    made = [f"runs/{where}/report.json" for where in document["reports"]]
    made += [f"runs/{where}/measures.json" for where in document["measures"]]
    for output in [*made, *document["results"]]:
        path = PurePosixPath(output)
        yield output
        if path.name in BESIDE:
            yield str(path.with_name(BESIDE[path.name]))


def find(document: dict, folder: Path) -> list[Damage]:
    """What is finished but not whole of the workflow in `folder`; document: its plan.json. Every file is read once, and not changed.

    A run without a whole checkpoint is no run, though its record is there: all of its training is put aside. What was made from
    it is left, and taken up again if the weights come out the same.
    """
    found = []
    for output in dict.fromkeys(_outputs(document)):
        path = folder / output
        if path.is_file() and (why := wrong_with(path)):
            found.append(Damage(output, why, (path,)))
    for name in document["runs"]:
        record = folder / "runs" / name / "run.json"
        if record.is_file() and (why := checkpoint.damage(record.parent)):
            training = [record, record.parent / "state.json", *sorted(record.parent.glob("*.safetensors"))]
            found.append(Damage(f"runs/{name}/run.json", why, tuple(path for path in training if path.exists())))
    return found


def put_aside(found: list[Damage]) -> None:
    """Give what is damaged another name, with ".damaged" at the end, so that it is made again and nothing is deleted for it."""
    for path in {path for damage in found for path in damage.files}:
        with writing(path):
            os.replace(path, path.with_name(f"{path.name}.damaged"))

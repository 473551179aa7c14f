"""Where the records of the study lie, how they are named and how they are read."""

import io
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from deepdefense import data
from deepdefense.storage import files, paths
from deepdefense.storage.files import ResultsError, read_json


def report_folder(*, eps: float, norm: str, which: str, n: int, seed: int, mode: str = "full") -> str:
    """Name of the folder, within that of a run, where the report of an attack on its first `n` test images is kept."""
    return f"report-{which}-{norm}-eps{eps:.5f}-n{n}-seed{seed}" + ("" if mode == "full" else f"-{mode}")


def load_records(folder: str | Path | None = None, kind: str | None = None) -> list[dict]:
    """All records (`*.json`) below `folder` (default: the committed results), sorted by path, each with its `path`.

    kind: only those whose "kind" is this ("training", "attacks", "search"). ResultsError if there is no such folder.
    """
    folder = paths.results_root() if folder is None else Path(folder)
    if not folder.is_dir():
        raise ResultsError(f"there are no records: {folder} is not a folder")
    records = [read_json(path) | {"path": str(path.relative_to(folder))} for path in sorted(folder.rglob("*.json"))]
    return [record for record in records if kind is None or record.get("kind") == kind]


FULL, REDUCED = "paper", "quick"  # folders of the headline results
FULL_SIZE = {"width": 1.0, "epochs": 30}  # the least of a run at the plan's full size, which also takes all training images


def reduced(record: Mapping) -> bool:
    """Is the training run `record` smaller than the plan's full size: narrower, with fewer images or with fewer epochs?"""
    config = record["config"]
    published_images, held_out = data.SPECS[config["data"]].published[0], data.SPECS[config["data"]].validation
    few_images = config["train_size"] is not None and config["train_size"] < published_images - held_out
    return few_images or any(config[name] < least for name, least in FULL_SIZE.items())


AGREEMENT_JSON, AGREEMENT_PARQUET = "agreement.json", "agreement.parquet"  # our attacks beside their authors' code
PROTOCOL = "paper_protocol"  # folder of data/results/: networks under the paper's protocol to the letter, a folder each
PROTOCOL_JSON, PROTOCOL_PARQUET = "protocol.json", "protocol.parquet"
SEARCH_FOLDERS = ("search", "refine")  # in this order; the second may not be there yet


def finished_runs(folder: Path | None = None) -> list[str]:
    """Names of the finished runs in `folder` (default: data/runs)."""
    folder = paths.runs_root() if folder is None else folder
    return sorted(path.parent.name for path in folder.glob("*/run.json"))


def check_run(name: str, folder: Path | None = None) -> Path:
    """The folder of the finished run `name`; a ValueError that lists the finished runs if there is no such one."""
    folder = paths.runs_root() if folder is None else folder
    if not isinstance(name, str) or name not in finished_runs(folder):
        there = ", ".join(finished_runs(folder)) or "none"
        raise ValueError(f"run must name a finished run in {folder}; got {name!r}. There are: {there}")
    files.read_json(folder / name / "run.json")
    return folder / name


def published(run: str, kept: str | None = None) -> str:
    """Name, within a folder of results, of what is published of `run`: its record, or its folder `kept` (a report's, measures')."""
    return f"{run}.json" if kept is None else f"{run}.{kept}"


def publish(profile: str, run: str, kept: str | None = None) -> list[Path]:
    """Copy the record of the finished run, or the files of its folder `kept`, into data/results/PROFILE/: the new paths."""
    source, target = paths.runs_root() / run, paths.results_root() / profile / published(run, kept)
    if kept is None:
        return [files.write_bytes(target, (source / "run.json").read_bytes())]
    there = sorted(path for path in (source / kept).iterdir() if path.is_file() and not path.name.startswith("."))
    return [files.write_bytes(target / path.name, path.read_bytes()) for path in there]


MEASURES_FILES = ("measures.json", "sweep.parquet")


class OfRun:
    """What belongs to a training run: `record` has its name, `config` is its configuration."""

    record: Mapping
    config: Mapping

    @property
    def name(self) -> str:
        return self.record["name"]

    @property
    def pair(self) -> tuple[str, str]:
        return self.config["data"], self.config["model"]

    @property
    def defence(self) -> str:
        return self.config["objective"]

    @property
    def seed(self) -> int:
        return self.config["seed"]

    @property
    def setting(self) -> str:
        """All of its configuration but the seed: the same for the repeats of one line of a grid."""
        return json.dumps({name: value for name, value in self.config.items() if name != "seed"}, sort_keys=True)


def measures_folder(which: str, n: int, seed: int) -> str:
    """Name of the folder, within that of a run, where its measures on the first `n` test images are kept."""
    return f"measures-{which}-n{n}-seed{seed}"


def protocol_folder(run: str, root: Path | None = None) -> Path:
    """Where the record of `run` under the paper's protocol is, below `root` (default: the committed results)."""
    return (root or paths.results_root()) / PROTOCOL / run


def protocol_column(condition: str, attack: str, what: int | str) -> str:
    """Name of a column of such a record: "APGD/8", "EADEN/l2", under another condition than the ordinary one "clamped:APGD/8"."""
    return f"{condition}:{attack}/{what}" if condition else f"{attack}/{what}"


def write_sweep(found: Mapping[str, np.ndarray]) -> bytes:
    """The content of sweep.parquet: one row an image, one column an attack and eps."""
    buffer = io.BytesIO()
    pq.write_table(pa.table(dict(found)), buffer)
    return buffer.getvalue()


def read_sweep(path: str | Path) -> dict[str, np.ndarray]:
    """What `write_sweep` made."""
    table = pq.read_table(path)
    return {name: table[name].to_numpy() for name in table.column_names}

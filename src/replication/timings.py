"""The records of benchmarks/: what takes how long."""

from pathlib import Path

from deepdefense.storage import paths

from .records import load_records

READS = ("benchmarks",)


def benchmarks(name: str, folder: str | Path | None = None) -> list[dict]:
    """The records of the benchmark `name` below `folder` (default: the committed ones); a ValueError if there is none."""
    folder = paths.results_root() / "benchmarks" if folder is None else Path(folder)
    found = [record for record in load_records(folder, "benchmark") if record["name"] == name]
    if not found:
        raise ValueError(f"folder must hold a record of the benchmark {name!r}; {folder} has none")
    return found

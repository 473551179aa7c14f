"""Which runs a folder of results is to hold in the end, and which of them are there whole.

The workflow writes grid.json beside the records, from the grid that it runs: so a page can tell a finished grid from one of which
half the runs are there, and what is missing, from the results alone.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deepdefense.evaluation.report import JSON_NAME, PARQUET_NAME
from deepdefense.storage import files

from .records import MEASURES_FILES, published

GRID_JSON = "grid.json"
FIRST_SEEDS = 3  # of a pair: with so many a page shows it, and goes on doing so while runs of further seeds are under way


@dataclass(frozen=True)
class PlannedRun:
    """One run of a grid. kept: the folders of its reports and measures, as they are called within the folder of the run."""

    name: str
    pair: tuple[str, str]
    seed: int
    kept: tuple[str, ...]

    def whole(self, where: Path) -> bool:
        """Are its record, its reports and its measures in the folder of results `where`?"""
        wanted = [where / published(self.name)]
        for folder in self.kept:
            names = MEASURES_FILES if folder.startswith("measures-") else (JSON_NAME, PARQUET_NAME)
            wanted += [where / published(self.name, folder) / name for name in names]
        return all(path.is_file() for path in wanted)


def as_json(runs: Iterable[PlannedRun]) -> dict:
    """The content of grid.json."""
    ordered = sorted(runs, key=lambda run: run.name)
    return {"kind": "grid", "runs": {run.name: {"pair": list(run.pair), "seed": run.seed, "kept": list(run.kept)} for run in ordered}}


def read(where: Path) -> list[PlannedRun]:
    """The runs that the folder of results `where` is to hold; none if nothing there says so."""
    if not (where / GRID_JSON).is_file():
        return []
    found = files.read_json(where / GRID_JSON)["runs"]
    return [PlannedRun(name, tuple(one["pair"]), one["seed"], tuple(one["kept"])) for name, one in found.items()]


def of_pair(runs: Sequence[PlannedRun], pair: tuple[str, str]) -> list[PlannedRun]:
    return [run for run in runs if run.pair == pair]


def finished(runs: Sequence[PlannedRun], where: Path) -> list[PlannedRun]:
    """The part of one pair's `runs` that may be shown: all of them if all are whole, else those of the first three seeds if they are.

    Else none: some of a grid never takes the place of all of another one.
    """
    seeds = sorted({run.seed for run in runs})
    for shown in (seeds, seeds[:FIRST_SEEDS]):
        chosen = [run for run in runs if run.seed in shown]
        if chosen and all(run.whole(where) for run in chosen):
            return chosen
    return []


def progress(runs: Sequence[PlannedRun], where: Path, names: Mapping[tuple[str, str], str]) -> str:
    """ "CNN, CIFAR-10: 7 of 18 runs; …" for the pairs in `names` that the grid has runs of."""
    counts = {pair: of_pair(runs, pair) for pair in names}
    return "; ".join(f"{names[pair]}: {sum(run.whole(where) for run in some)} of {len(some)} runs" for pair, some in counts.items() if some)

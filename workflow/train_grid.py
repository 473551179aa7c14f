"""Train every run of a grid, several in one process, and keep each run's record in data/results/GRID/.

    python workflow/train_grid.py [workflow/grids/search.csv] [--profile quick] [--cores N] [--out FOLDER]

For hundreds of runs of half a minute, each of which would spend a good part of it on the start of a notebook of its own: the same
runs under the same names as `workflow/reproduce.py` would make, without attacks, figures and weights to keep. A run whose record is
there is not repeated; to repeat it, delete the record. A run that fails does not stop the others, and one that is killed goes on from
its last whole epoch, which data/runs/unfinished/ holds until its record is there.
"""

import argparse
import multiprocessing
import os
import shutil
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import lru_cache
from pathlib import Path

import grid
import torch
from job_costs import in_words
from run_notebook import die_with_parent, keep_memory

from deepdefense import data, training
from deepdefense.storage import files, paths
from replication import profiles

ROOT = Path(__file__).resolve().parents[1]
UNFINISHED = "unfinished"

load = lru_cache(maxsize=2)(data.load)


def begin() -> None:
    """Of a worker: one thread, and no life after the process that started it."""
    die_with_parent()
    torch.set_num_threads(1)


def train_one(run: training.TrainConfig, path: Path) -> dict:
    """The record of `run`, which is written to `path`."""
    folder = paths.runs_root() / UNFINISHED / run.name()
    record = training.fit(run, folder=folder, dataset=load(run.data), device="auto", progress=False).record
    record = record | {"checkpoints": {"last": None, "best": None}}  # they go with the folder
    files.write_json(path, record)
    shutil.rmtree(folder)
    return record


def in_a_line(record: dict) -> str:
    """What came of a run: its last epoch on the validation images."""
    last = record["history"][-1]
    if not last["finite"]:
        return "diverged"
    clean, robust = (100 * last[key] for key in ("val_accuracy", "val_robust_accuracy"))
    return f"{record['status']}: clean {clean:.1f} %, robust {robust:.1f} %, alignment {last['val_alignment']:+.2f}"


def search(rows: dict[str, grid.Row], folder: Path, cores: int) -> list[str]:
    """Train what is missing in `folder`; names of the runs that failed."""
    todo = {name: row for name, row in rows.items() if not (folder / f"{name}.json").is_file()}
    print(f"{len(rows)} runs, {len(todo)} of them to do, {cores} at a time", flush=True)
    failed, start = [], time.time()
    keep_memory()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(cores, mp_context=context, initializer=begin) as pool:
        jobs = {pool.submit(train_one, row.config, folder / f"{name}.json"): name for name, row in todo.items()}
        for done, job in enumerate(as_completed(jobs), 1):
            name = jobs[job]
            try:
                said = in_a_line(job.result())
            except Exception as error:  # one bad run must not cost the others
                failed.append(name)
                said = f"FAILED: {type(error).__name__}: {error}"
            left = (time.time() - start) / done * (len(todo) - done)
            print(f"{done}/{len(todo)} {name}: {said} (about {in_words(left)} left)", flush=True)
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", nargs="?", default=ROOT / "workflow" / "grids" / "search.csv", help="default: %(default)s")
    parser.add_argument("--profile", default="quick", choices=profiles.PROFILES, help="what empty fields stand for (default: quick)")
    parser.add_argument("--cores", type=int, default=os.cpu_count(), help="runs at a time (default: all cores)")
    parser.add_argument("--out", type=Path, help="folder of the records (default: data/results/GRID)")
    chosen = parser.parse_args()
    try:
        rows = grid.load(chosen.grid, chosen.profile)
    except grid.GridError as error:
        parser.error(str(error))
    failed = search(rows, chosen.out or paths.results_root() / Path(chosen.grid).stem, max(1, chosen.cores))
    print("\n".join([f"{len(failed)} runs failed:", *failed]) if failed else "all runs are there")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""The command that makes a record again, read from the record itself."""

import re
import shlex
from collections.abc import Mapping
from dataclasses import fields
from functools import cache

from deepdefense.arguments import plain_number
from deepdefense.storage import files, paths
from deepdefense.training.config import TrainConfig

from .. import profiles

GRID_FOLDERS = ("search", "refine", "full_search")  # of which workflow/train_grid.py makes the records
FULL_PROFILE = "paper"


def _papermill(notebook: str, parameters: Mapping) -> str:
    """What a reader types; numbers are written so that they are read back to the last digit."""
    given = [
        f"-p {name} {shlex.quote(repr(value) if plain_number(value) is not None else str(value))}" for name, value in parameters.items()
    ]
    return " ".join(["papermill", f"book/{notebook}.ipynb", "out.ipynb", *given])


@cache
def taken() -> frozenset[str]:
    """The parameters that book/03_train.ipynb takes."""
    cells = files.read_json(paths.root() / "book" / "03_train.ipynb")["cells"]
    source = next("".join(cell["source"]) for cell in cells if "parameters" in cell["metadata"].get("tags", []))
    return frozenset(re.findall(r"^(\w+):", source, re.MULTILINE))


def _departs(config: TrainConfig, profile: str) -> dict | None:
    """The parameters with which `profiles.make` gives `config` in `profile`; None if it cannot."""
    own = profiles.make(profile, config.objective)
    named = [one.name for one in fields(TrainConfig) if one.name not in ("objective", "options", "seed")]
    given = {name: getattr(config, name) for name in named if getattr(config, name) != getattr(own, name)}
    given |= {name: value for name, value in config.options.items() if own.options.get(name) != value}
    if config.target:
        given = {name: value for name, value in given.items() if name not in ("lam", "warmup")}
        if (config.target, config.lam) != (own.target, own.lam):  # each takes the place of the profile's other
            given |= {"target": config.target} | ({"lam": config.lam} if config.lam else {})
    if not taken().issuperset(given):
        return None
    try:
        made = profiles.make(profile, config.objective, seed=config.seed, **given)
    except ValueError:  # a value that this profile's own settings do not go with
        return None
    return given if made == config else None


def training(config: Mapping) -> str | None:
    """The command that trains the run with `config`, in the profile that it departs from least; None if no profile gives it."""
    run = TrainConfig(**config)
    found = {name: _departs(run, name) for name in profiles.PROFILES}
    found = {name: given for name, given in found.items() if given is not None}
    if not found:
        return None
    profile = min(found, key=lambda name: len(found[name]))
    return _papermill("03_train", {"profile": profile, "objective": run.objective, **found[profile], "seed": run.seed})


def attacks(name: str, report: Mapping) -> str:
    """The command that attacks the finished run `name` as `report` was made."""
    suites = ",".join(report["suites_run"])
    settings = {"run": name, "suites": suites, "norm": report["norm"], "which": report["weights"], "eps": report["eps"]}
    return _papermill("04_attacks", settings | {"n_images": report["n"], "seed": report["seed"]})


def measures(name: str, record: Mapping) -> str:
    return _papermill("09_measure", {"run": name, "which": record["weights"], "n_images": record["n"], "seed": record["seed"]})


def masking(name: str, record: Mapping) -> str:
    spent = [f"--{setting} {record['settings'][setting]}" for setting in ("steps", "draws", "queries", "readouts")]
    return " ".join(["python workflow/masking_report.py", name, f"--images {record['images']}", *spent])


def whole_folder(folder: str) -> str | None:
    """The command that makes what is missing in a folder of data/results/; None where there is none for all of it."""
    if folder in profiles.PROFILES:
        return f"make reproduce PROFILE={folder}"
    if folder in GRID_FOLDERS:
        size = f" --profile {FULL_PROFILE}" if folder == "full_search" else ""
        return f"python workflow/train_grid.py workflow/grids/{folder}.csv{size}"
    return "python workflow/check_suite.py" if folder == "checked" else None


def benchmark(record: Mapping) -> str | None:
    """The command of a benchmark; None if its script is not there."""
    script = f"benchmarks/{record['name']}.py"
    return f"python {script}" if (paths.root() / script).is_file() else None

"""From a profile's grid to the jobs of the workflow: each with its parameters, the files it depends on, and what it costs.

`describe` gives all of it as one JSON document, the Snakefile's only source. Paths in it are relative to the workflow's folder,
`<root>/_build/reproduce-<name>`, in which there are links: `root` to the checkout whose book is made, `code` to the one that
this package runs from (the same, but for tests), `runs` to the training runs, `datasets` to the data sets. So no path of the
machine stands in a rule, whatever characters it has.
"""

import ast
import hashlib
import json
import re
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path

import grid
import yaml
from job_costs import Costs

from deepdefense import data
from deepdefense.storage import code_files, paths
from deepdefense.training import resume
from replication import planned, profiles, records

PROFILES = tuple(profiles.PROFILES)
CHECKOUT = code_files.SOURCES.parent
LOCK = "code/requirements.lock"
OURS = ("deepdefense", "replication")


class PlanError(ValueError):
    """There is nothing that could be planned; the message says why."""


def notebooks(book: Path) -> list[Path]:
    """The notebooks that `book`/_toc.yml names, in reading order; a PlanError if it names none."""
    found = []

    def walk(node):
        if isinstance(node, list):
            for item in node:
                walk(item)
        elif isinstance(node, dict):
            for key, value in node.items():
                if key in ("root", "file"):
                    page = book / value
                    found.append(page if page.suffix == ".ipynb" else page.parent / f"{page.name}.ipynb")
                elif isinstance(value, list):
                    walk(value)

    toc = book / "_toc.yml"
    if not toc.is_file():
        raise PlanError(f"{toc} is missing: it names the notebooks to execute.")
    walk(yaml.safe_load(toc.read_text(encoding="utf-8")))
    present = [path for path in found if path.is_file()]
    if not present:
        raise PlanError(f"{toc} names no notebook that exists.")
    return present


@dataclass(frozen=True)
class Notebook:
    """What a job depends on in a notebook: not its outputs, and for a run not its prose either."""

    path: Path

    @cached_property
    def content(self) -> dict:
        try:
            return json.loads(self.path.read_text(encoding="utf-8"))
        except (ValueError, KeyError, OSError) as error:
            raise PlanError(f"{self.path} is no whole notebook: {error}") from error

    @property
    def cells(self) -> list[dict]:
        return self.content["cells"]

    @property
    def shown(self) -> list[str]:
        """The defences whose runs of the profile the page shows: they must be there before it is executed.

        Its metadata say it: "shows", a list of objectives.
        """
        return self.content["metadata"].get("shows", [])

    @cached_property
    def code(self) -> list[str]:
        """Sources of the code cells."""
        return ["".join(cell["source"]) for cell in self.cells if cell["cell_type"] == "code"]

    def digest(self, prose: bool = False) -> str:
        """Sixteen hexadecimal digits that change with the code; prose: or with anything but the outputs."""
        whole = [["".join(cell["source"]), cell["metadata"]] for cell in self.cells] if prose else self.code
        return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:16]

    def takes(self, parameter: str) -> bool:
        """Is `parameter` assigned in the first code cell?"""
        body = ast.parse(self.code[0]).body if self.code else []
        targets = [target for node in body for target in getattr(node, "targets", [getattr(node, "target", None)])]
        return parameter in [target.id for target in targets if isinstance(target, ast.Name)]

    def imports(self) -> tuple[Path, ...]:
        """Our files that the code depends on."""
        plain = "\n".join(line for cell in self.code for line in cell.splitlines() if not line.lstrip().startswith(("%", "!")))
        return code_files.files_of_source(plain, OURS)

    def folders(self) -> list[str]:
        """The folders of data/results/ that the page reads: what the modules behind it name as READS."""
        return sorted({folder for file in self.imports() for folder in _reads(file)})


@cache
def _reads(file: Path) -> tuple[str, ...]:
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and [getattr(target, "id", None) for target in node.targets] == ["READS"]:
            return ast.literal_eval(node.value)
    return ()


def linked(files) -> list[str]:
    """Files of our package as the workflow names them."""
    return [f"code/{file.relative_to(CHECKOUT).as_posix()}" for file in files]


@dataclass(frozen=True)
class Plan:
    """Everything that one workflow is to make.

    profile: what the empty fields of the grid and the pages stand for; root: the checkout with the book; table: the grid, or None
    name: of the workflow's folder, _build/reproduce-NAME, and of its results, data/results/NAME
    """

    profile: str
    root: Path
    table: Path | None
    name: str

    @cached_property
    def rows(self) -> dict[str, grid.Row]:
        found = grid.load(self.table, self.profile) if self.table else {}
        named = sorted({name for row in found.values() for name in row.parameters})
        strange = ", ".join(name for name in named if not self.jobs["03_train"].takes(name))
        if strange:
            raise PlanError(f"{self.table.name}: book/03_train.ipynb, which trains the runs, has no parameter {strange}.")
        return found

    @cached_property
    def pages(self) -> dict[str, Notebook]:
        return {path.stem: Notebook(path) for path in notebooks(self.root / "book")}

    @cached_property
    def jobs(self) -> dict[str, Notebook]:
        """The notebooks that make runs, reports and measures; each is read once, when it is needed."""
        return {name: Notebook(self.root / "book" / f"{name}.ipynb") for name in ("03_train", "04_attacks", "09_measure")}

    @property
    def folder(self) -> Path:
        return self.root / "_build" / f"reproduce-{self.name}"

    @property
    def links(self) -> dict[str, Path]:
        """The links in the workflow's folder and where they lead."""
        return {"root": self.root, "code": CHECKOUT, "runs": paths.runs_root(), "datasets": paths.data_root()}

    @property
    def publishes(self) -> bool:
        """Do its results go to data/results? Those of the smoke profile do not."""
        return self.profile != "smoke"

    @property
    def clean_tree(self) -> bool:
        """Must every result come from a committed tree? Those of the headline must."""
        return self.name == records.FULL

    @property
    def results(self) -> Path:
        """Its folder of data/results."""
        return self.root / "data" / "results" / self.name

    @cached_property
    def reports(self) -> dict[str, tuple[grid.Row, grid.Attack]]:
        """{"run/folder of the report": (row, attack)} of the runs that are attacked."""
        of_rows = [(row, row.reports(data.SPECS[row.config.data].published[1])) for row in self.rows.values()]
        return {where: (row, attack) for row, reports in of_rows for where, attack in reports.items()}

    @cached_property
    def measures(self) -> dict[str, grid.Row]:
        """{"run/folder of the measures": row} of the runs that are measured."""
        return {row.measures: row for row in self.rows.values() if row.measure}

    def manifest(self) -> dict:
        """What its folder of results is to hold in the end: the content of grid.json there (see `replication.planned`)."""
        kept: dict[str, list[str]] = {name: [] for name in self.rows}
        for where in [*self.reports, *self.measures]:
            run, folder = where.split("/")
            kept[run].append(folder)
        runs = [
            planned.PlannedRun(name, (row.config.data, row.config.model), row.config.seed, tuple(kept[name]))
            for name, row in self.rows.items()
        ]
        return planned.as_json(runs)


def make(profile: str, root: str | Path, table: str | Path | None = None, name: str | None = None) -> Plan:
    """The plan of `profile` for the checkout `root`; a PlanError names what is wrong.

    table: a grid in place of the profile's own; name: of the results (default: the grid's name, which is the profile's)
    """
    if profile not in PROFILES:
        raise PlanError(f"profile must be one of {', '.join(PROFILES)}; got {profile!r}")
    root = Path(root).resolve()
    own = root / "workflow" / "grids" / f"{profile}.csv"
    name = name or (Path(table).stem if table else profile)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise PlanError(f"the name of a workflow must be letters, digits and . _ -; got {name!r}")
    if table and name in PROFILES and Path(table).resolve() != own:
        raise PlanError(f"{name} is the name of a profile; give the results of {table} another name")
    return Plan(profile, root, Path(table).resolve() if table else own if own.is_file() else None, name)


def _run(plan: Plan, name: str, costs: Costs) -> dict:
    row = plan.rows[name]
    seconds = costs.training(row)
    return {
        "data": row.config.data,
        "parameters": row.parameters | {"compare": False},
        "notebook": plan.jobs["03_train"].digest(),
        "code": linked(resume.own_files(row.config)),
        "seconds": seconds,
        "runtime": costs.minutes(seconds),
        "gpu_mb": costs.gpu_mb(row),
    }


def _report(plan: Plan, row: grid.Row, attack: grid.Attack, costs: Costs) -> dict:
    seconds = costs.attack(row, attack)
    return {
        "parameters": attack.parameters() | {"run": row.name},
        "notebook": plan.jobs["04_attacks"].digest(),
        "seconds": seconds,
        "runtime": costs.minutes(seconds),
    }


def _measures(plan: Plan, row: grid.Row, costs: Costs) -> dict:
    seconds = costs.measure(row)
    return {
        "parameters": {"run": row.name, "n_images": row.measure, "seed": row.config.seed},
        "notebook": plan.jobs["09_measure"].digest(),
        "seconds": seconds,
        "runtime": costs.minutes(seconds),
    }


def _page(plan: Plan, name: str, results: list[str], costs: Costs) -> dict:
    notebook = plan.pages[name]
    seed = min((row.config.seed for row in plan.rows.values()), default=0)
    wanted = [profiles.make(plan.profile, objective, seed=seed) for objective in notebook.shown]
    shown = [row.name for row in plan.rows.values() if replace(row.config, lam=0) in [replace(run, lam=0) for run in wanted]]
    reports = [f"runs/{where}/report.json" for where, (row, _) in plan.reports.items() if row.name in shown]
    folders = notebook.folders()
    there = [path for folder in folders for path in sorted((plan.root / "data" / "results" / folder).rglob("*.json"))]
    made = [path for path in results if plan.name in folders]
    return {
        "parameters": {key: value for key, value in (("profile", plan.profile), ("seed", seed)) if notebook.takes(key)},
        "runs": [f"runs/{run}/run.json" for run in shown] + (reports if notebook.takes("suites") else []),
        "results": list(dict.fromkeys([*made, *(f"root/{path.relative_to(plan.root).as_posix()}" for path in there)])),
        "code": linked(notebook.imports()),
        "notebook": notebook.digest(prose=True),
        "seconds": costs.page(name),
    }


def _results(plan: Plan) -> list[str]:
    """The committed results that the workflow makes; that of the smoke profile makes none."""
    if not plan.publishes:
        return []
    where = f"root/data/results/{plan.name}"
    kept = [f"{where}/{records.published(*folder.split('/'))}/report.json" for folder in plan.reports]
    kept += [f"{where}/{records.published(*folder.split('/'))}/measures.json" for folder in plan.measures]
    return [f"{where}/{records.published(name)}" for name in plan.rows] + kept


def _book_text(root: Path) -> list[str]:
    """The book's files that are no notebooks, and its configuration."""
    kept = [p for p in (root / "book").rglob("*") if p.is_file() and p.suffix != ".ipynb" and "_build" not in p.parts]
    return ["root/_config.yml", *sorted(f"root/{path.relative_to(root).as_posix()}" for path in kept)]


def describe(plan: Plan, costs: Costs) -> dict:
    """All of `plan` as JSON for the Snakefile."""
    results = _results(plan)
    held = sorted({row.config.data for row in plan.rows.values()})
    where = paths.data_root()
    return {
        "name": plan.name,
        "lock": LOCK,
        "clean_tree": plan.clean_tree,
        "datasets": {name: [f"datasets/{path.relative_to(where).as_posix()}" for path in data.files(name)] for name in held},
        "runs": {name: _run(plan, name, costs) for name in plan.rows},
        "reports": {report: _report(plan, *what, costs) for report, what in plan.reports.items()},
        "attack_code": linked(code_files.files_of("replication.experiments.attack", without=resume.WITHOUT, packages=OURS)),
        "measures": {folder: _measures(plan, row, costs) for folder, row in plan.measures.items()},
        "measure_code": linked(code_files.files_of("replication.experiments.measure", without=resume.WITHOUT, packages=OURS)),
        "results": results,
        "pages": {name: _page(plan, name, results, costs) for name in plan.pages},
        "page_gpu_mb": max((costs.gpu_mb(row) for row in plan.rows.values()), default=0),
        "scoreboard_code": linked(code_files.files_of("replication.claims.front", "replication.site.extension", packages=OURS)),
        "book_text": _book_text(plan.root),
    }

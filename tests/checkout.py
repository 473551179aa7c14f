"""A small checkout in a folder of its own, with the real code, a tiny grid and one page: for tests that change or kill things."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat

from deepdefense.storage import paths

ROOT = paths.root()
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
GRID = """objective,lam,attack_suites,attack_images
standard,,gradient,24
gfa-first,,gradient,24
"""
PAGE = """from deepdefense.storage import files, paths
from replication.chapters.train import training_table
names = sorted(path.parent.name for path in paths.runs_root().glob("*/run.json"))
training_table([files.read_json(paths.runs_root() / name / "run.json") for name in names])"""


def write_notebook(path: Path, *sources: str, parameters: str | None = None, shows: tuple[str, ...] = ()) -> None:
    cells = [nbformat.v4.new_markdown_cell(f"# {path.stem}")]
    if parameters is not None:
        cells.append(nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}))
    cells += [nbformat.v4.new_code_cell(source) for source in sources]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": KERNEL, "shows": list(shows)}), path)


def outputs(path: Path) -> str:
    """The text that the cells of an executed notebook printed."""
    cells = nbformat.read(path, as_version=4).cells
    return "".join(output.get("text", "") for cell in cells for output in cell.get("outputs", []))


def tiny_book(root: Path, toc: str) -> Path:
    """`root`/book with what every book needs and an index; returns it."""
    book = root / "book"
    book.mkdir(parents=True)
    shutil.copy(ROOT / "_config.yml", root)
    shutil.copy(ROOT / "book" / "references.bib", book)
    shutil.copytree(ROOT / "book" / "_static", book / "_static")
    (book / "_toc.yml").write_text(toc)
    return book


def make(root: Path, grid: str = GRID) -> Path:
    """A checkout in `root`: our code as it is, the notebooks that the jobs execute, a page 01_theory that shows the runs."""
    book = tiny_book(root, "format: jb-book\nroot: index\nchapters:\n- file: 01_theory\n- file: 02_plain\n")
    (book / "index.md").write_text("# Index\n\n$a = b$, [first](01_theory.ipynb).\n")
    for name in ("03_train", "04_attacks"):
        shutil.copy(ROOT / "book" / f"{name}.ipynb", book)
    write_notebook(book / "01_theory.ipynb", PAGE, shows=("standard", "gfa-first"))
    write_notebook(book / "02_plain.ipynb", "from deepdefense import geometry\nprint('geometry')")
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for folder in ("src", "workflow", "tools"):
        shutil.copytree(ROOT / folder, root / folder, ignore=ignore)
    shutil.copy(ROOT / "requirements.lock", root)
    (root / "workflow" / "grids" / "smoke.csv").write_text(grid)
    return root


def environment(root: Path) -> dict[str, str]:
    """The environment in which the checkout `root` runs its own code and keeps its runs in `root`/kept."""
    (root / "kept").mkdir(exist_ok=True)
    own = {"PYTHONPATH": str(root / "src"), "DEEPDEFENSE_DATA": str(root / "kept"), "JUPYTER_PREFER_ENV_PATH": "1"}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | own | {"PATH": path}


def command(root: Path, *arguments: str) -> list[str]:
    return [sys.executable, str(root / "workflow" / "reproduce.py"), *arguments]


def reproduce(root: Path, *arguments: str, timeout: float = 600, **variables: str) -> subprocess.CompletedProcess:
    """`python workflow/reproduce.py` of the checkout `root`."""
    settings = dict(env=environment(root) | variables, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return subprocess.run(command(root, *arguments), timeout=timeout, **settings)


def planned(root: Path) -> set[str]:
    """The jobs that a dry run names, without the digests of the runs."""
    done = reproduce(root, "--dry-run")
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("  ") and " is made again: " not in line]
    return {" ".join(words[:2]).split("-seed")[0] if words[0] != "site" else "site" for words in lines}


def _without_times(value):
    """A record without what differs from one run to the next: times, the date and the commit."""
    timed = ("seconds", "time", "date", "commit", "environment", "resumed")
    if isinstance(value, dict):
        return {key: _without_times(item) for key, item in value.items() if not any(word in key for word in timed)}
    return [_without_times(item) for item in value] if isinstance(value, list) else value


def results(root: Path) -> dict[str, object]:
    """What a workflow made, by file: records and reports without times, weights and Parquet as bytes, pages as text."""
    found: dict[str, object] = {}
    runs, made = root / "kept" / "runs", root / "_build" / "reproduce-smoke"
    for path in [*runs.rglob("run.json"), *runs.rglob("report.json")]:
        found[path.relative_to(root).as_posix()] = _without_times(json.loads(path.read_text()))
    for path in [*runs.rglob("*.parquet"), *runs.glob("*/*.safetensors")]:
        found[path.relative_to(root).as_posix()] = path.read_bytes()
    for path in (made / "book").glob("*.ipynb"):
        cells = [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
        found[path.relative_to(root).as_posix()] = [
            (cell.source, [output.get("data", {}).get("text/plain", output.get("text")) for output in cell.outputs]) for cell in cells
        ]
    found["site"] = sorted(path.relative_to(made).as_posix() for path in (made / "_build" / "html").glob("*.html"))
    return found

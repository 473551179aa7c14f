"""What leads from a figure or table to what is behind it: the pages of its runs, its code, the command that makes it again.

The site holds a page for each committed record, `runs/NAME.html`, a list of them, `runs/index.html`, and a page for each source
file, `code/PATH.html` (`replication.site` makes them); links are relative to a page of the book.
"""

from collections.abc import Sequence
from functools import cache
from html import escape
from pathlib import Path
from urllib.parse import quote

from deepdefense.storage import paths

RUNS, CODE = "runs", "code"  # folders of the site
SHOWN_CODE = ("src/**/*.py", "workflow/*.py", "workflow/Snakefile", "workflow/grids/*.csv", "benchmarks/*.py", "tools/*.py")


MEASURED = ("more_effort", "scale")  # folders of measures of runs whose training records lie elsewhere


def record_files(root: Path | None = None) -> dict[str, Path]:
    """{name: file} of everything in the results `root` (default: the committed ones) that has a page of its own on the site.

    A record is a JSON file in one of the folders of results; what lies in a folder of its own has that folder's `*.json`. Several folders
    may have a file of one name: the first has that name, another one the folder's before it, and measures come last.
    """
    root = paths.results_root() if root is None else root
    found: dict[str, Path] = {}
    for path in sorted(root.glob("*/*.json"), key=lambda path: (path.parent.name in MEASURED, path)):
        found[f"{path.parent.name}-{path.stem}" if path.stem in found else path.stem] = path
    return found | {path.parent.name: path for path in sorted(root.glob("checked/*/*.json"))}


def short(name: str) -> str:
    """What tells a run in an address: the digest that its name ends with, or the whole name if it ends with none."""
    digest = name.rpartition("-")[2]
    return digest if len(digest) == 8 and set(digest) <= set("0123456789abcdef") else name


def run_page(name: str) -> str:
    """Address of the page of a record, from a page of the book."""
    return f"{RUNS}/{quote(name)}.html"


def list_page(names: Sequence[str]) -> str:
    """Address of the list of runs that shows these alone; without scripts it shows all."""
    return f"{RUNS}/index.html?only={','.join(quote(short(name)) for name in dict.fromkeys(names))}"


@cache
def code_files() -> dict[str, Path]:
    """{path from the checkout: file} of every source file that has a page on the site."""
    root = paths.root()
    return {path.relative_to(root).as_posix(): path for pattern in SHOWN_CODE for path in sorted(root.glob(pattern))}


def code_page(path: str) -> str:
    """Address of the page of a source file; path: from the checkout, as "src/replication/chapters/train.py".

    A ValueError if the site has no page of such a file.
    """
    if path not in code_files():
        raise ValueError(f"code must be the path of a source file of the checkout, such as src/replication/search.py; got {path!r}")
    return f"{CODE}/{quote(path)}.html"


def links(runs: Sequence[str] = (), code: str | None = None, command: str | None = None) -> str:
    """A line of HTML to show beside a figure or table; empty if nothing is given.

    runs: names of records, as `Network.name` or a record's "name": one leads to its page, several to a list of them. Those that are
    not among the committed results, as of a reader's own folder, have no page, and the line says how many there are.
    code: path of the source file from the checkout; command: what makes it again, shown when asked for.
    """
    if isinstance(runs, str):
        raise ValueError(f"runs must be a list of names; got {runs!r}")
    names, published = list(dict.fromkeys(runs)), record_files()
    there = [name for name in names if name in published]
    own = len(names) - len(there)
    shown = []
    if there:
        what = "the run" if len(there) == 1 else f"{len(there)} runs"
        shown.append(f'<a class="behind-runs" href="{run_page(there[0]) if len(there) == 1 else list_page(there)}">{what}</a>')
    if own:
        shown.append(f"<span>{own} {'run' if own == 1 else 'runs'} not published here</span>")
    if code:
        shown.append(f'<a class="behind-code" href="{code_page(code)}">code</a>')
    if command:
        shown.append(f"<details><summary>make it again</summary><code>{escape(command)}</code></details>")
    return f'<div class="behind">{"".join(shown)}</div>' if shown else ""

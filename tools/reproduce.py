"""Execute every notebook of the book, in the order of book/_toc.yml, and build the site from what came out.

    python tools/reproduce.py [--profile smoke|cpu|paper]

All of it happens in a folder of its own, _build/reproduce-PROFILE: a copy of _config.yml and book/, in which papermill
executes each notebook and Jupyter Book then builds the site, with the profile, date and commit above every page. The
committed notebooks are not touched. A notebook that fails is named and kept as far as it came, and nothing is built.
"""

from __future__ import annotations

import argparse
import datetime
import shutil
import subprocess
import sys
import time
from pathlib import Path

import papermill
import yaml

ROOT = Path(__file__).resolve().parents[1]
PROFILES = ("smoke", "cpu", "paper")
BUILD = ("build", "book", "--all", "-W", "-n", "--keep-going", "-q")


class ReproduceError(RuntimeError):
    """A step failed; the message is the sentence to show."""


def notebooks(book: Path) -> list[Path]:
    """The notebooks that `book`/_toc.yml names, in reading order."""
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
        raise ReproduceError(f"{toc} is missing: it names the notebooks to execute.")
    walk(yaml.safe_load(toc.read_text(encoding="utf-8")))
    present = [path for path in found if path.is_file()]
    if not present:
        raise ReproduceError(f"{toc} names no notebook that exists.")
    return present


def copy_book(root: Path, target: Path) -> None:
    """A fresh copy of the book's sources in `target`, without what earlier builds left."""
    if target.exists():
        shutil.rmtree(target)
    target.mkdir(parents=True)
    ignore = shutil.ignore_patterns("_build", ".ipynb_checkpoints", "__pycache__", "out*.ipynb")
    shutil.copytree(root / "book", target / "book", ignore=ignore)


def commit(root: Path) -> str:
    """The commit that `root` is at, and whether files differ from it; "no commit" where there is none."""

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(root), *words], capture_output=True, text=True, stdin=subprocess.DEVNULL
            )
        except OSError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    name = git("rev-parse", "--short=10", "HEAD")
    if not name:
        return "no commit"
    return f"commit {name}{' with local changes' if git('status', '--porcelain') else ''}"


def write_config(root: Path, target: Path, label: str) -> None:
    """_config.yml of the book, with `label` as the banner of every page."""
    config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
    config["html"] = (config.get("html") or {}) | {"announcement": label}
    text = yaml.safe_dump(config, allow_unicode=True, sort_keys=False)
    (target / "_config.yml").write_text(text, encoding="utf-8")


def literally(path: Path) -> str:
    """`path` for papermill, which reads braces in a path as places to fill in."""
    return str(path).replace("{", "{{").replace("}", "}}")


def execute(notebook: Path, profile: str) -> None:
    """Execute `notebook` in place, in its own folder, with `profile` if it has that parameter."""
    try:
        takes = "profile" in papermill.inspect_notebook(literally(notebook))
        papermill.execute_notebook(
            literally(notebook),
            literally(notebook),
            parameters={"profile": profile} if takes else {},
            kernel_name="python3",
            cwd=str(notebook.parent),
            progress_bar=sys.stderr.isatty(),
        )
    except papermill.PapermillExecutionError as error:
        raise failed(notebook, f"in its cell [{error.exec_count}], {error.ename}", error.evalue) from error
    except Exception as error:  # a dead kernel, a kernel that is not installed, a damaged file: each a type of its own
        raise failed(notebook, type(error).__name__, error) from error


def failed(notebook: Path, what: str, message) -> ReproduceError:
    last = (str(message).strip().splitlines() or ["without a message"])[-1]
    return ReproduceError(f"{notebook.name} failed ({what}): {last}\nIt is kept as far as it came: {notebook}")


def build(target: Path) -> Path:
    """Build the site of the book in `target`; returns the folder of its pages."""
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", *BUILD]
    done = subprocess.run(command, cwd=target, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise ReproduceError(f"Jupyter Book did not build the site from {target}: see its warnings above.")
    return target / "_build" / "html"


def say(text: str) -> None:
    print(text, flush=True)


def timed(label: str, function, *arguments):
    """Call, and print the label before and the seconds after."""
    say(f"{label} ...")
    start = time.monotonic()
    result = function(*arguments)
    say(f"{label}: {time.monotonic() - start:.1f} s")
    return result


def reproduce(profile: str, root: Path = ROOT) -> Path:
    """All of it; returns the folder of the built pages."""
    target = root / "_build" / f"reproduce-{profile}"
    label = f"Executed with profile {profile} on {datetime.date.today().isoformat()}, {commit(root)}"
    copy_book(root, target)
    write_config(root, target, label)
    say(label)
    todo = notebooks(target / "book")
    for number, notebook in enumerate(todo, 1):
        timed(f"[{number}/{len(todo)}] {notebook.name}", execute, notebook, profile)
    return timed("site", build, target)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", choices=PROFILES, default="smoke", help="how much is run (smoke)")
    options = parser.parse_args(arguments)
    start = time.monotonic()
    try:
        site = reproduce(options.profile)
    except ReproduceError as error:
        print(error, file=sys.stderr)
        return 1
    say(f"all of it: {time.monotonic() - start:.1f} s")
    say(f"The site is {site / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Build the site from the executed pages in the workflow's folder: python workflow/build_site.py

Started in that folder: book/ holds the pages that papermill executed, `root` leads to the checkout with the rest of the book.
"""

import datetime
import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from deepdefense.storage import files, provenance
from replication.claims import by_seed, front, scoreboard

MADE = {  # from the results
    "_scoreboard.md": scoreboard.text,
    "_by_seed.md": by_seed.text,
    "_front.md": front.text,
    "_static/claims.svg": front.figure_file,
}
BUILD = ("build", "book", "--all", "-W", "-n", "--keep-going", "-q")


def commit(root: Path) -> str:
    """The commit that `root` is at, and whether tracked files differ from it; "no commit" where there is none."""
    name = provenance.commit(root)
    return "no commit" if name is None else f"commit {name}".replace("-dirty", " with local changes")


def copy_text(source: Path, book: Path) -> None:
    """The book's files other than notebooks, as they are in `source` now; what is no longer there goes."""
    kept = {path.name for path in book.glob("*.ipynb")}
    for path in book.iterdir() if book.is_dir() else []:
        if path.name not in kept:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    ignore = shutil.ignore_patterns("_build", ".ipynb_checkpoints", "__pycache__", "*.ipynb")
    shutil.copytree(source, book, ignore=ignore, dirs_exist_ok=True)


def write_config(root: Path, target: Path, label: str) -> None:
    """_config.yml of the book, with `label` as the banner of every page."""
    config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
    config["html"] = (config.get("html") or {}) | {"announcement": label}
    text = yaml.safe_dump(config, allow_unicode=True, sort_keys=False)
    files.write_bytes(target / "_config.yml", text.encode())


def main() -> int:
    root, target = Path("root").resolve(), Path.cwd()
    name = target.name.removeprefix("reproduce-")
    copy_text(root / "book", target / "book")
    results = root / "data" / "results"
    for part, make in MADE.items():
        if (target / "book" / part).is_file() and results.is_dir():  # without any results, what is committed stays
            files.write_bytes(target / "book" / part, make(results).encode())
    write_config(root, target, f"Executed with profile {name} on {datetime.date.today().isoformat()}, {commit(root)}")
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", *BUILD]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, env=os.environ)
    if done.returncode:
        print(f"Jupyter Book did not build the site from {target}: see its warnings above.", file=sys.stderr)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())

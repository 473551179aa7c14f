"""Where things live on disk; data sets and runs have a place each, see data/README.md.

Nothing here depends on the folder that a program was started in, if there is a checkout.
"""

import os
from pathlib import Path


def root() -> Path:
    """The checkout that this package runs from; without one (a plain `pip install`), the current folder."""
    checkout = Path(__file__).resolve().parents[3]
    return checkout if (checkout / "_config.yml").is_file() else Path.cwd()


def given(folder: str | os.PathLike | None) -> Path | None:
    """A folder that somebody names, with ~ as the home folder; None stays None. ValueError if it cannot be a folder."""
    if folder is None:
        return None
    if not isinstance(folder, str | os.PathLike) or str(folder) == "":
        raise ValueError(f"folder must be the path of a folder; got {folder!r}")
    path = Path(folder).expanduser()
    if path.exists() and not path.is_dir():
        raise ValueError(f"folder must be the path of a folder; {path} is a file")
    return path


def _configured(variable: str) -> Path | None:
    value = os.environ.get(variable)
    return root() / Path(value).expanduser() if value else None  # jobs run in folders of their own


def data_root() -> Path:
    """Folder of the data sets: $DEEPDEFENSE_DATA if set, else `data/`. Where all sets are there, nothing is written to it."""
    return _configured("DEEPDEFENSE_DATA") or root() / "data"


def runs_root() -> Path:
    """Folder of runs and checkpoints (not committed): $DEEPDEFENSE_RUNS if set, else `runs/` in the folder of the data sets."""
    return _configured("DEEPDEFENSE_RUNS") or data_root() / "runs"


def results_root() -> Path:
    """Folder of the committed results: `data/results/` of the checkout."""
    return root() / "data" / "results"

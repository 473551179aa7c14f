"""Where things live on disk. Nothing here depends on the folder that a program was started in, if there is a checkout."""

import os
from pathlib import Path


def root() -> Path:
    """The checkout that this package runs from; without one (a plain `pip install`), the current folder."""
    checkout = Path(__file__).resolve().parents[3]
    return checkout if (checkout / "_config.yml").is_file() else Path.cwd()


def data_root() -> Path:
    """Folder of the data sets: $DEEPDEFENSE_DATA if set, else `data/`."""
    configured = os.environ.get("DEEPDEFENSE_DATA")
    return Path(configured).expanduser() if configured else root() / "data"


def runs_root() -> Path:
    """Folder of runs and checkpoints (not committed): `runs/` in the data folder."""
    return data_root() / "runs"


def results_root() -> Path:
    """Folder of the committed results: `data/results/` of the checkout."""
    return root() / "data" / "results"

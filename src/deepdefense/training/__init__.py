"""The one training loop, what a run is, and what is left of it."""

from .config import TrainConfig
from .loop import fit
from .runs import Run, load_model, load_run

__all__ = ["Run", "TrainConfig", "fit", "load_model", "load_run"]

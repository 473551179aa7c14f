"""What `fit` is given, looked at before any work: one sentence for what cannot be trained."""

from collections.abc import Callable

from torch import nn

from .. import data
from ..inference import untrainable
from .config import TrainConfig


def check(config: TrainConfig, dataset: data.Dataset | None, objective: Callable | None, model: nn.Module | None) -> None:
    """A ValueError names what `fit` cannot work with; dataset, objective, model: None for those that the configuration names."""
    if not isinstance(config, TrainConfig):
        hint = "; TrainConfig(**settings) makes one of a dictionary" if isinstance(config, dict) else ""
        raise ValueError(f"config must be a TrainConfig, got {type(config).__name__}{hint}")
    if dataset is not None:
        if not isinstance(dataset, data.Dataset):
            raise ValueError(f"dataset must be a deepdefense.data.Dataset, got {type(dataset).__name__}")
        empty = [part for part in ("train", "val", "test") if len(getattr(dataset, part)) == 0]
        if empty:
            raise ValueError(f"dataset must have images to train, validate and test on; there are none in {' and '.join(empty)}")
    if objective is not None and not callable(objective):
        raise ValueError(f"objective must be a function (model, x, y, step) -> (loss, {{name: number}}), got {objective!r}")
    if model is not None:
        if not isinstance(model, nn.Module):
            raise ValueError(f"model must be a torch.nn.Module, got {type(model).__name__}")
        if reason := untrainable(model):
            raise ValueError(f"the model ({type(model).__name__}) cannot be trained: {reason}")

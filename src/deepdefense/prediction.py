"""What a model answers: classes and accuracy, in eval mode, in batches."""

import torch
from torch import Tensor, nn

from . import data
from .attacks.guard import frozen


def predict(model: nn.Module, x: Tensor, batch_size: int = 1000) -> Tensor:
    """Predicted classes (N,) of images x (N, C, H, W) in [0, 1], in eval mode."""
    with frozen(model), torch.no_grad():
        return torch.cat([model(part).argmax(1) for part in x.split(batch_size)])


def accuracy(model: nn.Module, split: data.Split) -> float:
    """Share of `split` that `model` classifies correctly, in [0, 1]."""
    return (predict(model, split.images()) == split.y).float().mean().item()

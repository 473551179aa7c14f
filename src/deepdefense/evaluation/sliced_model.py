"""A model that takes few images at a time, so that an attack on many fits into little memory."""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def _listeners(model: nn.Module) -> int:
    return sum(len(module._forward_pre_hooks) + len(module._forward_hooks) for module in model.modules())


class Sliced(nn.Module):
    """`model`, called on at most `size` images at a time; where a gradient is wanted, each slice is computed once
    more for it.

    Nothing drawn at random depends on `size`, and the logits only by the model's own rounding. An attack that reads
    layers inside the model would see the last slice alone, so that is a RuntimeError.
    """

    def __init__(self, model: nn.Module, size: int):
        super().__init__()
        if size < 1:
            raise ValueError(f"batch_size must be at least 1, got {size}")
        self.model, self.size = model, size
        self._own_listeners = _listeners(model)

    def forward(self, x: Tensor) -> Tensor:
        if len(x) <= self.size:
            return self.model(x)
        if _listeners(self.model) != self._own_listeners:
            raise RuntimeError(
                f"an attack reads layers inside the model, which cannot be done {self.size} images at a time: "
                f"batch_size must be at least {len(x)}"
            )
        if torch.is_grad_enabled() and x.requires_grad:
            return torch.cat([checkpoint(self.model, part, use_reentrant=False) for part in x.split(self.size)])
        return torch.cat([self.model(part) for part in x.split(self.size)])


def in_slices(model: nn.Module, size: int, most: int) -> nn.Module:
    """`model` itself if it is never given more than `size` of `most` images at a time, else `Sliced`."""
    return model if size >= most else Sliced(model, size)

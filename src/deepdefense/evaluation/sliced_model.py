"""A model that takes few images at a time, so that an attack on many fits into little memory."""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..inference import is_private, private


def _listeners(model: nn.Module) -> int:
    hooks = (hook for m in model.modules() for hook in (*m._forward_pre_hooks.values(), *m._forward_hooks.values()))
    return sum(not is_private(hook) for hook in hooks)


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
        parts = x.split(self.size)
        if torch.is_grad_enabled() and x.requires_grad:
            return torch.cat([checkpoint(self._slice, part, use_reentrant=False) for part in parts])
        return torch.cat([self._slice(part) for part in parts])

    def _slice(self, part: Tensor) -> Tensor:
        with private(self.model):  # the second computation must start from what the first was given
            return self.model(part)


def in_slices(model: nn.Module, size: int, most: int) -> nn.Module:
    """`model` itself if it is never given more than `size` of `most` images at a time, else `Sliced`."""
    return model if size >= most else Sliced(model, size)

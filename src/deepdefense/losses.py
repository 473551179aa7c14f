"""Losses per sample, by name: `LOSSES[name](logits (B, K), y (B,)) -> (B,)`. The reduction is left to the caller."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def mse(logits: Tensor, y: Tensor) -> Tensor:
    """Squared error against one-hot targets, summed over classes (torch's `mse_loss` averages: K times smaller)."""
    return (logits - F.one_hot(y, logits.shape[1]).to(logits.dtype)).square().sum(1)


def ce(logits: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of softmax(logits), in nats."""
    return F.cross_entropy(logits, y, reduction="none")


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """Largest wrong logit minus the right one: above 0 exactly when the sample is misclassified (Carlini & Wagner 2017)."""
    right = logits.gather(1, y[:, None]).squeeze(1)
    wrong = logits.scatter(1, y[:, None], -torch.inf).amax(1)
    return wrong - right


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"mse": mse, "ce": ce, "margin": margin}


def get_loss(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss called `name`; a ValueError names the ones there are."""
    if name not in LOSSES:
        raise ValueError(f"loss must be one of {', '.join(LOSSES)}; got {name!r}")
    return LOSSES[name]

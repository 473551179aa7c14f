"""An exponential moving average of a network's weights over the steps of training, which then stands for the network.

average ← decay · average + (1 − decay) · weights, after every step; after the first one it is the weights themselves
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def averaged(model: nn.Module, decay: float) -> AveragedModel:
    """The average of `model` with `decay` in (0, 1), to be told of each step by `update_parameters`.

    Statistics of batch normalisation are averaged as the weights are, whole numbers are taken as they stand. torch's own update
    makes NaN of a constant that is infinite, such as a mask in a buffer, and a fraction of a count: here what is equal stays.
    """

    @torch.no_grad()
    def update(mine: Sequence[Tensor], theirs: Sequence[Tensor], _n: Tensor | int) -> None:
        for a, b in zip(mine, theirs, strict=True):
            a.copy_(torch.where(a == b, b, a.lerp(b, 1 - decay)) if a.is_floating_point() else b)

    return AveragedModel(model, multi_avg_fn=update, use_buffers=True)

"""GFA with the scale of each weight layer held fixed, so that weights cannot grow or shrink to change the alignment.

The length-weighted alignment at a layer is the rate at which the loss grows with the scale of its weights (see `scale_identity`):
GFA can pay by larger weights alone. Here each linear and convolution layer computes with r · W/‖W‖ in place of W, as in weight
normalisation (Salimans & Kingma 2016) with constant lengths: no gradient changes a length. Biases and normalisations stay free.

r = √(outputs/3), the length that torch's fresh weights have on average (variance 1/(3 · fan-in)). It follows from the shape alone, so
nothing has to be remembered, and the weights themselves are set to it before each step, those of a trained network as well: networks
are kept and loaded as any other.
What an optimizer's step adds to a length stays until the next step; by the end of a cosine schedule that is nothing. A moving average
of the weights (`ema`) is shorter than they are. Options: those of `gfa`.
"""

import inspect
import math

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..taps import WEIGHT_LAYERS
from . import gfa

OPTIONS = gfa.OPTIONS


def weights_of(model: nn.Module) -> dict[str, nn.Parameter]:
    """{name: weight} of the linear and convolution layers of `model`."""
    parameters = dict(model.named_parameters())
    names = [f"{name}.weight".removeprefix(".") for name, module in model.named_modules() if isinstance(module, WEIGHT_LAYERS)]
    return {name: parameters[name] for name in names if name in parameters}


def fixed_length(weight: Tensor) -> float:
    return math.sqrt(weight.shape[0] / 3)


def rescaled(weight: Tensor) -> Tensor:
    """`weight` at its fixed length, differentiable; a weight of zeros stays zero."""
    return weight * (fixed_length(weight) / torch.linalg.vector_norm(weight).clamp(min=torch.finfo(weight.dtype).tiny))


class FixedScale(nn.Module):
    """`model` with its weights at their fixed lengths, whatever they are; it shares them with `model`."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return functional_call(self.model, {name: rescaled(weight) for name, weight in weights_of(self.model).items()}, x)


def objective(model, x, y, step, **options):
    with torch.no_grad():
        for weight in weights_of(model).values():
            weight.copy_(rescaled(weight))
    return gfa.objective(FixedScale(model), x, y, step, **options)


# Its keywords and their defaults are those of GFA.
objective.__signature__ = inspect.signature(gfa.objective)  # type: ignore[attr-defined]

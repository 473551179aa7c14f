"""The input gradient of each image, to be differentiated again: what the penalties on gradients are made of."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .. import taps
from ..double_backward import TwiceDifferentiable, second_derivatives


def input_gradient(model: nn.Module, x: Tensor, y: Tensor, loss: Callable[[Tensor, Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """(losses (B,), their gradients at the images x in [0, 1], (B, ...)), both differentiable in the weights; `x` is left alone.

    loss: (logits, y) -> (B,). In training mode batch normalisation couples the samples: the gradients are those of the summed loss.
    """
    image = x.detach().requires_grad_()  # a leaf made for this pass
    with TwiceDifferentiable(image) as layers, second_derivatives(model):
        values = loss(model(image.clone()), y)
    with layers.inputs_only():
        (gradient,) = torch.autograd.grad(values.sum(), image, create_graph=True)
    return values, gradient


def seen_gradient(model: nn.Module, x: Tensor, y: Tensor, loss: Callable[[Tensor, Tensor], Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """(losses (B,), images as the network sees them, gradients there); the images come without a graph, the rest as in `input_gradient`.

    For the library's networks the second is (x − shift)/scale, for others see `deepdefense.first_tap`.
    """
    image = x.detach().requires_grad_()
    with TwiceDifferentiable(image) as layers, second_derivatives(model):
        logits, (first,) = taps.forward(model, image.clone(), "first")
        values = loss(logits, y)
    with layers.inputs_only():
        (gradient,) = torch.autograd.grad(values.sum(), first.value, create_graph=True)
    return values, first.value.detach(), gradient

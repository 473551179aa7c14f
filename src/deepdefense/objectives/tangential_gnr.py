"""Tangential gradient-norm regularisation: the loss plus lam · ‖g_t‖², where g_t is the part of the input gradient across the image.

    g = ∂ℓ/∂h at the image h as the network sees it,   g_t = g − ⟨g, ĥ⟩ ĥ

What exact alignment of gradient and image would remove, g_t, is made short; its length is penalised, not an angle, and the radial part is
free. The gradient is in units of h: for images scaled to [−1, 1] it is half that of the image in [0, 1], and what GNR penalises with
lam takes four times the lam here. Ours.
"""

from ..arguments import one_of
from ..geometry import decompose
from ..losses import LOSSES, get_loss
from .input_gradient import seen_gradient

OPTIONS = {"loss": one_of(LOSSES)}


def tangential_square(model, x, y, losses):
    """(losses (B,), ‖g_t‖² (B,)), both differentiable in the weights; losses: (logits, y) -> (B,)."""
    task, image, gradient = seen_gradient(model, x, y, losses)
    return task, decompose(gradient, image)[1].flatten(1).square().sum(1)


def objective(model, x, y, step, *, loss="mse"):
    task, squares = tangential_square(model, x, y, get_loss(loss))
    task, penalty = task.mean(), squares.mean()
    return task + step.lam * penalty, {"task": task.detach(), "penalty": penalty.detach()}

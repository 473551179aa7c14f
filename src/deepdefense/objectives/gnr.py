"""Gradient-norm regularisation: the loss plus lam · ‖∇ₓ ℓ‖², the squared length of each sample's input gradient.

"Double backpropagation" of Drucker & LeCun (1992); as a defence, Ross & Doshi-Velez (2018). The gradient is the one with respect
to the image in [0, 1], the unit of every eps here; measured at the input scaled to [−1, 1] it is half as long, and the same
penalty needs four times the lam. Whether DeepDefense's own baseline "GNR" uses this scale is not known.
"""

import torch

from ..arguments import one_of
from ..double_backward import TwiceDifferentiable
from ..losses import LOSSES, get_loss

OPTIONS = {"loss": one_of(LOSSES)}


def objective(model, x, y, step, *, loss="mse"):
    image = x.detach().requires_grad_()
    with TwiceDifferentiable(image) as layers:
        task = get_loss(loss)(model(image), y)
    with layers.inputs_only():
        (gradient,) = torch.autograd.grad(task.sum(), image, create_graph=True)
    penalty = gradient.flatten(1).square().sum(1).mean()
    task = task.mean()
    return task + step.lam * penalty, {"task": task.detach(), "penalty": penalty.detach()}

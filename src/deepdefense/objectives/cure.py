"""CURE, curvature regularisation (Moosavi-Dezfooli et al. 2019): the input gradient must not change along the sign of itself.

    ℓ(x) + lam · ‖∇ₓℓ(x + h z) − ∇ₓℓ(x)‖²,   z = sign ∇ₓℓ(x) / ‖sign ∇ₓℓ(x)‖

z is a constant, h a length (L2) in units of the image in [0, 1], and x + h z is not clipped. For CIFAR-10 theirs are h = 1.5 and
lam = 4; their formula has the square of the length, their code the length itself. They start from a trained network (here
start = "plain") and raise h over the first epochs; here h is constant, and lam can be raised instead. Theirs is in eval mode.
"""

from ..arguments import number, one_of
from ..geometry import unit
from ..losses import LOSSES, get_loss
from .input_gradient import input_gradient

OPTIONS = {"loss": one_of(LOSSES), "h": number(0, 1e3, above=True)}


def objective(model, x, y, step, *, loss="mse", h=1.5):
    losses = get_loss(loss)
    task, gradient = input_gradient(model, x, y, losses)
    z = unit(gradient.detach().sign())
    _, moved = input_gradient(model, x + h * z, y, losses)
    penalty = (moved - gradient).flatten(1).square().sum(1).mean()
    task = task.mean()
    return task + step.lam * penalty, {"task": task.detach(), "penalty": penalty.detach()}

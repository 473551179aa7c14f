"""Adversarial training (Madry et al. 2018): the loss at the end of a short PGD attack on each batch.

The attack climbs the loss that is trained on, from a random start, with the model in eval mode; the step itself is taken
in training mode.
"""

from ..attacks.adaptive import loss_pgd
from ..losses import get_loss


def objective(model, x, y, step, *, loss="mse", eps=8 / 255, attack_steps=7, alpha=2 / 255):
    x_adv = loss_pgd(
        model, x, y, eps=eps, alpha=alpha, steps=attack_steps, loss=loss, keep_best=False, generator=step.generator
    )
    value = get_loss(loss)(model(x_adv), y).mean()
    return value, {"task": value.detach()}

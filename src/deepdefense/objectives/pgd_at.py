"""Adversarial training (Madry et al. 2018): the loss at the end of a short PGD attack on each batch.

The attack climbs the loss that is trained on, from a random start, with the model in eval mode; the step itself is taken
in training mode.
"""

from ..arguments import number, one_of, whole
from ..attacks.linf_ascent import climb, loss_score, uniform_start
from ..inference import frozen
from ..losses import LOSSES, get_loss

OPTIONS = {"loss": one_of(LOSSES), "eps": number(0, 1), "alpha": number(0, 1, above=True), "attack_steps": whole(1)}


def objective(model, x, y, step, *, loss="mse", eps=8 / 255, attack_steps=7, alpha=2 / 255):
    start = uniform_start(x, eps, step.generator)
    with frozen(model):
        score = loss_score(model, y, get_loss(loss))
        x_adv = climb(score, x, eps=eps, sizes=[alpha] * attack_steps, start=start, score_last=False).last
    value = get_loss(loss)(model(x_adv), y).mean()
    return value, {"task": value.detach()}

"""TRADES (Zhang et al. 2019): the loss on clean images plus beta times how far an attack can move the prediction.

    ℓ(f(x), y) + beta · KL( softmax f(x) ‖ softmax f(x') ),   x' found by climbing this divergence, both terms trained through

As in the authors' code: the attack starts at x + 0.001 · N(0, 1), climbs with the model in eval mode, and the last iterate counts;
eps 0.031, step 0.007, 10 steps and beta 6 are theirs for CIFAR-10. Theirs is `loss="ce"`. With "mse" the clean term changes alone:
the divergence stays that of the softmax, whose logits are then near 0 and 1, so it is small and a larger beta may be due.
The clean prediction of the attack is computed once, not at each step; start and iterates are clipped to [0, 1].
"""

import torch
import torch.nn.functional as F

from ..arguments import number, one_of, whole
from ..attacks.linf_ascent import climb
from ..inference import frozen
from ..losses import LOSSES, get_loss

OPTIONS = {
    "loss": one_of(LOSSES),
    "beta": number(0, 1e6),
    "eps": number(0, 1),
    "alpha": number(0, 1, above=True),
    "attack_steps": whole(1),
}


def divergence(clean, logits):
    """KL(softmax(clean) ‖ softmax(logits)) of each sample, in nats; both (B, K) -> (B,)."""
    return F.kl_div(F.log_softmax(logits, 1), F.softmax(clean, 1), reduction="none").sum(1)


def objective(model, x, y, step, *, loss="mse", beta=6.0, eps=8 / 255, attack_steps=10, alpha=2 / 255):
    start = x + 1e-3 * torch.randn(x.shape, generator=step.generator, device=x.device, dtype=x.dtype)
    with frozen(model):
        with torch.no_grad():
            clean = model(x)

        def score(x_adv):
            logits = model(x_adv)
            return divergence(clean, logits), logits.detach().argmax(1) != y

        x_adv = climb(score, x, eps=eps, sizes=[alpha] * attack_steps, start=start, score_last=False).last
    logits = model(x)
    task, moved = get_loss(loss)(logits, y).mean(), divergence(logits, model(x_adv)).mean()
    return task + beta * moved, {"task": task.detach(), "penalty": moved.detach()}

"""MART (Wang et al. 2020): adversarial training that presses hardest where the clean image is not safely classified.

    BCE(p', y) + beta · KL( p ‖ p' ) · (1 − p_y),   BCE(p', y) = −log p'_y − log(1 − max_{k≠y} p'_k)

with p, p' the softmax of the logits at x and at x', which is found by climbing cross-entropy. Made of probabilities, it has no
form for squared error: `loss` can only be "ce". As in the authors' code: 1.0001 in place of the 1 in BCE, so that the logarithm is
finite, and both factors of the second term are trained through; the attack starts at x + 0.001 · N(0, 1), climbs in eval mode, and the
last iterate counts; 10 steps, and beta 5 for a ResNet-18 on CIFAR-10. Theirs are eps 0.031 and step 0.007.
"""

import torch
import torch.nn.functional as F

from ..arguments import number, whole
from ..attacks.linf_ascent import climb, loss_score
from ..inference import frozen
from ..losses import ce
from .trades import divergence


def only_cross_entropy(value) -> str | None:
    return None if value == "ce" else "ce, since MART is made of probabilities"


OPTIONS = {
    "loss": only_cross_entropy,
    "beta": number(0, 1e6),
    "eps": number(0, 1),
    "alpha": number(0, 1, above=True),
    "attack_steps": whole(1),
}


def exact(logits):
    """Logits of at least float32: bfloat16 knows no 1.0001."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def boosted(logits, y):
    """−log p_y − log(1.0001 − largest wrong p) of each sample; (B, K), (B,) -> (B,)."""
    wrong = logits.softmax(1).scatter(1, y[:, None], 0.0).amax(1)
    return ce(logits, y) - (1.0001 - wrong).log()


def objective(model, x, y, step, *, loss="ce", beta=5.0, eps=8 / 255, attack_steps=10, alpha=2 / 255):
    y = y.long()
    start = x + 1e-3 * torch.randn(x.shape, generator=step.generator, device=x.device, dtype=x.dtype)
    with frozen(model):
        score = loss_score(model, y, ce)
        x_adv = climb(score, x, eps=eps, sizes=[alpha] * attack_steps, start=start, score_last=False).last
    logits, attacked = exact(model(x)), exact(model(x_adv))
    task = boosted(attacked, y).mean()
    unsafe = 1 - F.softmax(logits, 1).gather(1, y[:, None]).squeeze(1)
    moved = (divergence(logits, attacked) * unsafe).mean()
    return task + beta * moved, {"task": task.detach(), "penalty": moved.detach()}

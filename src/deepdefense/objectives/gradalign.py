"""Fast adversarial training with GradAlign (Andriushchenko & Flammarion 2020): one attack step, and gradients that agree within the ball.

    ℓ(f(x + δ), y) + lam · (1 − cos( ∇ₓℓ(x), ∇ₓℓ(x + η) )),   δ one step of FGSM, η uniform in the L∞ ball of radius eps

As in the authors' code: the step is 1.25 eps, clipped to the ball and to [0, 1]; x + η is not clipped; lam is 0.2 for CIFAR-10 at 8/255;
an image without a gradient counts for nothing. Their code takes the gradient at x as a constant (`detach_clean`), their formula does
not say so. attack_start: where the step begins, "uniform" in the ball as in fast training, or "zero", as they train with GradAlign.
The attack runs in eval mode, the rest in training mode; theirs is in training mode throughout.
"""

from ..arguments import number, one_of, yes_or_no
from ..attacks.linf_ascent import climb, loss_score, uniform_start
from ..geometry import alignment
from ..inference import frozen
from ..losses import LOSSES, get_loss
from .input_gradient import input_gradient

STARTS = ("uniform", "zero")
OPTIONS = {
    "loss": one_of(LOSSES),
    "eps": number(0, 1),
    "step_size": number(0, 10, above=True),
    "attack_start": one_of(STARTS),
    "detach_clean": yes_or_no,
}


def objective(model, x, y, step, *, loss="mse", eps=8 / 255, step_size=1.25, attack_start="uniform", detach_clean=True):
    """step_size is a multiple of eps."""
    losses = get_loss(loss)
    start = uniform_start(x, eps, step.generator) if attack_start == "uniform" else x
    with frozen(model):
        x_adv = climb(loss_score(model, y, losses), x, eps=eps, sizes=[step_size * eps], start=start, score_last=False).last
    task = losses(model(x_adv), y).mean()
    _, clean = input_gradient(model, x, y, losses)
    clean = clean.detach() if detach_clean else clean
    _, near = input_gradient(model, uniform_start(x, eps, step.generator), y, losses)
    agreement = alignment(clean, near)
    counted = (clean.detach().flatten(1).any(1) & near.detach().flatten(1).any(1)).to(agreement.dtype)
    penalty = ((1 - agreement) * counted).sum() / counted.sum().clamp(min=1)
    return task + step.lam * penalty, {"task": task.detach(), "penalty": penalty.detach()}

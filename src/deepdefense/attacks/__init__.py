"""Adversarial attacks behind one signature: `attack(model, x, y, *, eps, ...) -> x_adv`.

x (B, C, H, W) float in [0, 1], y (B,) the labels to move away from, eps in the same units. Every attack stays within eps of
x and within [0, 1] (checked), leaves the model's mode, parameters and gradients and the global random state as they were.
"""

from .adaptive import loss_pgd
from .autoattack import apgd_ce, apgd_t, fab_t, square
from .gradient import apgd, fgsm, pgd
from .guard import AttackError

__all__ = ["AttackError", "apgd", "apgd_ce", "apgd_t", "fab_t", "fgsm", "loss_pgd", "pgd", "square"]

"""Adversarial attacks behind one signature: `attack(model, x, y, *, eps, ...) -> x_adv`.

x (B, C, H, W) float in [0, 1], y (B,) the labels to move away from, eps in the same units. Every attack stays within eps of
x and within [0, 1] (checked), leaves the model's mode, parameters and gradients and the global random state as they were.
"""

from .adaptive import ScaledLogits, loss_pgd, restarted_pgd, scaled_pgd
from .decision import rays
from .features import feature_pgd
from .gfa_adaptive import orthogonal_pgd
from .gradient import apgd, fgsm, pgd
from .guard import AttackError
from .multitargeted import multi_targeted_pgd
from .square import square
from .suite_adaptive import suite_adaptive
from .transfer import SmoothActivations, smooth_pgd, transfer

__all__ = [
    "AttackError",
    "ScaledLogits",
    "SmoothActivations",
    "apgd",
    "feature_pgd",
    "fgsm",
    "loss_pgd",
    "multi_targeted_pgd",
    "orthogonal_pgd",
    "pgd",
    "rays",
    "restarted_pgd",
    "scaled_pgd",
    "smooth_pgd",
    "square",
    "suite_adaptive",
    "transfer",
]

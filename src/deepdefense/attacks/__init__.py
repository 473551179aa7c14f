"""Adversarial attacks behind two signatures.

Bounded: `attack(model, x, y, *, eps, seed, ...) -> x_adv`, within eps of x (checked). Minimum norm: the same without
eps, the nearest image found that the model gets wrong, the clean one where there is none. x (B, C, H, W) float in
[0, 1], y (B,) the labels to move away from, eps in the same units; x_adv in [0, 1] (checked). Every attack leaves the
model's mode, parameters and gradients and the global random state as they were. None says what succeeded: the model's
prediction does.
"""

from .adaptive import loss_pgd
from .gradient import apgd, fgsm, pgd
from .guard import AttackError
from .minimum_norm import ddn, deepfool_l2, deepfool_linf, ead, fmn_linf
from .nearest import Minimum, Summary, minimum_over, summary, tighten
from .paper import apgdt, fab, pgd_l2, square

__all__ = [
    "AttackError",
    "Minimum",
    "Summary",
    "apgd",
    "apgdt",
    "ddn",
    "deepfool_l2",
    "deepfool_linf",
    "ead",
    "fab",
    "fgsm",
    "fmn_linf",
    "loss_pgd",
    "minimum_over",
    "pgd",
    "pgd_l2",
    "square",
    "summary",
    "tighten",
]

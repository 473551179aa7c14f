"""Adversarial attacks behind two signatures.

Bounded: `attack(model, x, y, *, eps, seed, ...) -> x_adv`, within eps of x (checked). Minimum norm: the same without
eps, the nearest image found that the model gets wrong, the clean one where there is none. x (B, C, H, W) float in
[0, 1], y (B,) the labels to move away from, eps in the same units; x_adv in [0, 1] (checked). Every attack leaves the
model's mode, parameters and gradients and the global random state as they were. None says what succeeded: the model's
prediction does.
"""

from .autoattack import apgd_ce, apgd_t, fab_t, square
from .contract import AttackError
from .features import feature_pgd
from .forward_passes import planned_passes
from .gradient import apgd, fgsm, pgd
from .hard_label import rays
from .minimum_norm import ddn, deepfool_l2, deepfool_linf, ead, fmn_linf, l2_margin
from .multi_targeted import multi_targeted_pgd
from .orthogonal import orthogonal_pgd
from .paper import apgdt, pgd_l2
from .projected_gradient import ScaledLogits, loss_pgd, restarted_pgd, scaled_pgd
from .smallest_distance import Minimum, Summary, minimum_over, summary, tighten
from .suites import suite_adaptive
from .tangential import tangential_pgd
from .transfer_attacks import SmoothActivations, smooth_pgd, transfer

__all__ = [
    "AttackError",
    "Minimum",
    "ScaledLogits",
    "SmoothActivations",
    "Summary",
    "apgd",
    "apgd_ce",
    "apgd_t",
    "apgdt",
    "ddn",
    "deepfool_l2",
    "deepfool_linf",
    "ead",
    "fab_t",
    "feature_pgd",
    "fgsm",
    "fmn_linf",
    "l2_margin",
    "loss_pgd",
    "minimum_over",
    "multi_targeted_pgd",
    "orthogonal_pgd",
    "pgd",
    "pgd_l2",
    "planned_passes",
    "rays",
    "restarted_pgd",
    "scaled_pgd",
    "smooth_pgd",
    "square",
    "suite_adaptive",
    "summary",
    "tangential_pgd",
    "tighten",
    "transfer",
]

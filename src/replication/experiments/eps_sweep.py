"""Accuracy against the radius: which images survive each attack at each of several eps (L∞)."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from deepdefense.attacks.suites import GRADIENT
from deepdefense.evaluation import protocol
from deepdefense.evaluation.threat import Threat
from deepdefense.inference import predict

from ..scope import LEVELS

SINGLE_STEP = ("FGSM",)


def sweep(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    levels: Sequence[int] = LEVELS,
    suite: Mapping[str, Callable] = GRADIENT,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """{"label", "prediction", "attack/level": (N,)}: survived or not, right before and after `attack` at eps = level/255.

    x (N, C, H, W) in [0, 1], y (N,). An image that an attack of several steps has broken is not attacked again at a larger eps:
    its perturbation fits into that ball too. The attack of a single step, FGSM, is tried at each eps on every image, and its
    curve may rise: that is one of the marks of masking.
    """
    if not (len(x) and levels and suite):
        raise ValueError(f"a sweep needs images, levels and attacks; got {len(x)}, {len(levels)} and {len(suite)} of them")
    prediction = predict(model, x, protocol.CHUNK)
    found = {"label": y.cpu().numpy(), "prediction": prediction.cpu().numpy()}
    for name, attack in suite.items():
        standing = prediction == y
        for level in sorted(levels):
            outcome, _ = protocol.run_attack(model, attack, x, y, standing, Threat(level / 255, seed=seed), name=name)
            survived = standing & ~torch.from_numpy(outcome.success).to(y.device)
            found[f"{name}/{level}"] = survived.cpu().numpy()
            standing = prediction == y if name in SINGLE_STEP else survived
    return found

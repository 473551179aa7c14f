"""Losses per sample, by name: `LOSSES[name](logits (B, K), y (B,)) -> (B,)`. The reduction is left to the caller.

Logits in half precision are taken in float32. Labels are of any integer type, one a sample; a ValueError names any other (see
`arguments.check_labels`: their range is looked at on a CPU only).
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from .arguments import check_choice, check_labels, check_logits_type

NO_LABEL = torch.iinfo(torch.int64).min  # torch's own −100 would give an image without a label a loss of 0


def _checked(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of at least float32, because bfloat16 is too coarse for a difference, and labels as int64 (B,)."""
    check_logits_type(logits, len(logits) if isinstance(logits, Tensor) and logits.dim() else 0)
    y = check_labels(y, *logits.shape)
    return logits.to(torch.promote_types(logits.dtype, torch.float32)), y


def mse(logits: Tensor, y: Tensor) -> Tensor:
    """Squared error against one-hot targets, summed over classes (torch's `mse_loss` averages: K times smaller)."""
    logits, y = _checked(logits, y)
    return (logits - F.one_hot(y, logits.shape[1]).to(logits.dtype)).square().sum(1)


def ce(logits: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of softmax(logits), in nats."""
    logits, y = _checked(logits, y)
    return F.cross_entropy(logits, y, reduction="none", ignore_index=NO_LABEL)


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """Largest wrong logit minus the right one: above 0 exactly when the sample is misclassified (Carlini & Wagner 2017)."""
    logits, y = _checked(logits, y)
    right = logits.gather(1, y[:, None]).squeeze(1)
    wrong = logits.scatter(1, y[:, None], -torch.inf).amax(1)
    return wrong - right


def dlr(logits: Tensor, y: Tensor) -> Tensor:
    """Difference of logits ratio, (largest wrong − right) / (first − third), to be maximised (Croce & Hein 2020).

    The same for any positive multiple of the logits and any shift; above 0 exactly when the sample is misclassified.
    Where the three largest logits are equal the ratio has no meaning; it is then the margin itself. Needs K ≥ 3.
    """
    logits, y = _checked(logits, y)
    if logits.shape[1] < 3:
        raise ValueError(f"the loss 'dlr' needs at least 3 classes, got {logits.shape[1]}; take 'margin' instead")
    largest = logits.topk(3, dim=1).values
    spread = largest[:, 0] - largest[:, 2]
    return margin(logits, y) / torch.where(spread > 0, spread, torch.ones_like(spread))


def targeted_margin(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """Logit of the class `target` (B,) minus that of the right one, to be maximised (Gowal et al. 2019)."""
    logits, y = _checked(logits, y)
    target = check_labels(target, *logits.shape, name="target")
    return (logits.gather(1, target[:, None]) - logits.gather(1, y[:, None])).squeeze(1)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"mse": mse, "ce": ce, "margin": margin, "dlr": dlr}


def get_loss(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss called `name`; a ValueError names the ones there are."""
    check_choice("loss", name, LOSSES)
    return LOSSES[name]

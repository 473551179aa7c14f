"""What an evaluation will cost, before it starts: passes from the attacks' settings, seconds from a few real passes."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..attacks import loss_pgd
from ..attacks.contract import Attack
from ..attacks.features import inner_layers
from ..attacks.forward_passes import passes_of
from ..cost import count_passes
from ..evaluation.cascade import passes
from ..inference import frozen, predict, seeded

TIMED_STEPS = 4  # of PGD, on one chunk of the images


@dataclass(frozen=True)
class Cost:
    """attacks: how many; images: that they are given; passes: forward passes of all of them, at most; seconds: for them, at most

    exact: False where an attack is among them whose passes no formula tells, so that "at most" is "about"
    """

    attacks: int
    images: int
    passes: int
    seconds: float
    exact: bool

    @property
    def words(self) -> str:
        at_most = "at most" if self.exact else "about"
        each = 1000 * self.seconds / max(self.passes, 1)
        return (
            f"{self.attacks} attacks on {self.images} images that the model gets right: {at_most} {self.passes:,} forward passes and as "
            f"many backward, {each:.3g} ms a pair here, so {at_most} {duration(self.seconds)}"
        )


def duration(seconds: float) -> str:
    """Seconds in words: "40 s", "12 min", "3.5 h"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def estimate(model: nn.Module, x: Tensor, y: Tensor, chosen: Mapping[str, Mapping[str, Attack]], *, eps: float, batch: int) -> Cost:
    """The cost of the attacks of `chosen` on those of x (N, C, H, W) that the model gets right, `batch` of them at a time."""
    right = predict(model, x, batch) == y
    with frozen(model), torch.no_grad():
        classes = model(x[:1]).shape[1]
    layers = len(inner_layers(model, x[:1]))
    total, exact = 0, True
    for attack in (attack for members in chosen.values() for attack in members.values()):
        known = passes_of(attack, classes, layers)
        exact &= known is not None
        total += passes(attack, classes) if known is None else known
    images = int(right.sum())
    whole = total * images
    return Cost(sum(map(len, chosen.values())), images, whole, whole * seconds_a_pass(model, x[:batch], y[:batch], eps), exact)


def seconds_a_pass(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> float:
    """Seconds that an image's forward and backward pass takes within an attack, from a few steps of PGD on x (B, C, H, W)."""
    with seeded(x.device, 0):
        loss_pgd(model, x, y, eps=min(eps, 1.0), steps=1)  # the first call prepares what later ones find prepared
        with count_passes(model) as counted:
            start = time.perf_counter()
            loss_pgd(model, x, y, eps=min(eps, 1.0), steps=TIMED_STEPS)
            if x.device.type == "cuda":
                torch.cuda.synchronize(x.device)
            spent = time.perf_counter() - start
    return spent / max(counted.forward, 1)

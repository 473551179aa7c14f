"""λ in a closed loop: it follows a target alignment step by step, in place of a schedule.

    mean ← 0.9 · mean + 0.1 · (what the batch reached)
    λ ← clip(λ · exp(κ (goal − mean)), 0.02, 20),   goal = target · min(1, progress / 0.6)

"What the batch reached" is what the penalty's form pursues (a for "cos"), the mean over its layers. A λ that is too small grows until
the alignment comes, and one that is too large gives way before the task is given up, if it was not too large from the first step on.
"""

import torch
from torch import Tensor

KAPPA = 0.15
START, LOWEST, HIGHEST = 0.3, 0.02, 20.0
RISE = 0.6  # share of the run over which the goal rises to the target
MEMORY = 0.9
REACHED = "reached"  # what an objective logs for the loop


def goal(target: float, progress: float) -> float:
    """What is asked for when the share `progress` in [0, 1] of the run is done."""
    return target * min(1.0, progress / RISE)


class ClosedLoop:
    """λ, and the running mean that it follows. Both are tensors on the training device: no step waits for a GPU to hand one over."""

    def __init__(self, target: float, device: torch.device, start: float = START):
        self.target = target
        self.lam = torch.tensor(start, device=device)
        self.mean = torch.tensor(0.0, device=device)

    def update(self, log: dict[str, Tensor], progress: float) -> None:
        """After a step that logged `log`, at the share `progress` in [0, 1] of the run."""
        if REACHED not in log:
            raise ValueError(f"target needs an objective that logs {REACHED!r}, the alignment it reached; this one logs {', '.join(log)}")
        self.mean = MEMORY * self.mean + (1 - MEMORY) * log[REACHED].float()
        self.lam = (self.lam * (KAPPA * (goal(self.target, progress) - self.mean)).exp()).clamp(LOWEST, HIGHEST)

    def state(self) -> dict[str, float]:
        """For a checkpoint; a float holds a float32 exactly."""
        return {"lam": self.lam.item(), "mean": self.mean.item()}

    def restore(self, state: dict[str, float]) -> None:
        self.lam.fill_(state["lam"])
        self.mean.fill_(state["mean"])

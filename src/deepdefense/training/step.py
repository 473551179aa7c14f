"""One step of training: the optimizer, and the function from a batch to updated weights."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from .. import objectives
from . import precision
from .config import TrainConfig


def make_optimizer(config: TrainConfig, model: nn.Module, *, on_device: bool = False) -> torch.optim.Optimizer:
    """AdamW, or SGD with Nesterov momentum 0.9. on_device: learning rate and counters live on the GPU, for a CUDA graph."""
    weights, decay = list(model.parameters()), config.weight_decay
    lr = torch.tensor(config.lr, device=weights[0].device) if on_device else config.lr
    fused = True if on_device else None  # None: as torch sees fit
    if config.optimizer == "adam":
        return torch.optim.AdamW(weights, lr=lr, weight_decay=decay, capturable=on_device, fused=fused)
    return torch.optim.SGD(weights, lr=lr, momentum=0.9, nesterov=True, weight_decay=decay, fused=fused)


def _loss_and_log(answer) -> tuple[Tensor, Mapping]:
    """What an objective returned, (loss, {name: number}); a ValueError says what else it was."""
    wanted = "an objective must return (loss, {name: number}), the loss a tensor of one number that depends on the weights; it returned "
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        raise ValueError(f"{wanted}{_kind(answer)}")
    loss, log = answer
    if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
        raise ValueError(f"{wanted}as loss {_kind(loss)}" + " without a gradient" * (isinstance(loss, Tensor) and loss.numel() == 1))
    if not isinstance(log, Mapping):
        raise ValueError(f"{wanted}{_kind(log)} beside the loss")
    for name, value in log.items():
        if not isinstance(value, int | float | np.generic) and not (isinstance(value, Tensor) and value.numel() == 1):
            raise ValueError(f"{wanted}{_kind(value)} as {name!r}")
    return loss, log


def _kind(value) -> str:
    return f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"


@dataclass(frozen=True)
class TrainingStep:
    """(x, y, lam, lr, generator) -> what the objective logs, "loss" first, as detached tensors; the weights are updated.

    On a CPU a loss that is not finite stops the step before it touches the weights, and the answer is None. On a GPU the question
    would wait for the step to end; there a NaN shows in what is logged.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    objective: Callable
    precision: str = "float32"

    def __call__(self, x: Tensor, y: Tensor, lam, lr, generator: torch.Generator) -> dict[str, Tensor] | None:
        self.set_rate(lr)
        with precision.arithmetic(self.precision):
            with precision.autocast(self.precision, x.device):
                loss, log = _loss_and_log(self.objective(self.model, x, y, objectives.Step(lam, generator)))
            if loss.device.type == "cpu" and not torch.isfinite(loss.detach()):
                return None
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
        return {name: torch.as_tensor(value).detach() for name, value in {"loss": loss, **log}.items()}

    def set_rate(self, lr) -> None:
        """Learning rate of this step; a tensor is overwritten where it is."""
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                if group["lr"] is not lr:
                    group["lr"].fill_(lr)
            else:
                group["lr"] = lr

"""Flatness in the sense of SAM: how far the loss rises under the worst small change of all weights (Foret et al. 2021).

    rise(ρ) = max over ‖ε‖₂ ≤ ρ ‖w‖₂ of  L(w + ε) − L(w),   L the mean loss over the images

SAM takes ε = ρ ‖w‖ ∇L/‖∇L‖, one step; projected ascent from there can only find more. ρ is relative to the length of all weights, for
an absolute one says nothing of networks of different size; it is no invariant all the same: a network that says everything more softly
has smaller rises (`accuracy` after the change tells).
"""

from copy import deepcopy

import torch
from torch import Tensor, nn

from deepdefense.arguments import check_range, checked_whole
from deepdefense.inference import answers
from deepdefense.losses import get_loss


def weight_rise(model: nn.Module, x: Tensor, y: Tensor, *, rho: float, loss: str = "mse", steps: int = 10) -> dict[str, float]:
    """{"loss", "sam", "worst", "accuracy", "accuracy_worst"}; the model is left alone, and looked at in eval mode.

    x (N, ...) in [0, 1], y (N,); rho above 0, a share of ‖w‖; steps: of the ascent after SAM's own
    loss: at the weights as they are. sam, worst: rises after SAM's step, and the largest one found. accuracy, accuracy_worst: in [0, 1],
    at the weights as they are and at those of the largest rise.
    """
    check_range("rho", rho, above=0)
    checked_whole("steps", steps)
    net, objective = deepcopy(model).eval(), get_loss(loss)
    weights = [p.requires_grad_() for p in net.parameters()]
    start = [p.detach().clone() for p in weights]
    radius = rho * _length(start)
    here, found = _value(net, objective, x, y), {}
    best = {"rise": 0.0, "accuracy": here[1]}
    for step in range(steps + 1):
        gradient = torch.autograd.grad(objective(net(x), y).mean(), weights)
        size = _length(gradient)
        if size == 0:  # a stationary point of the loss has no steepest direction
            break
        scale = radius / size if step == 0 else 2.5 * radius / steps / size
        with torch.no_grad():
            moved = [p - s + scale * g for p, s, g in zip(weights, start, gradient, strict=True)]
            shrink = min(1.0, radius / max(_length(moved), 1e-30))
            for p, s, delta in zip(weights, start, moved, strict=True):
                p.copy_(s + shrink * delta)
        value, accuracy = _value(net, objective, x, y)
        if value - here[0] > best["rise"]:
            best = {"rise": value - here[0], "accuracy": accuracy}
        found.setdefault("sam", value - here[0])
    return {"loss": here[0], "sam": found.get("sam", 0.0), "worst": best["rise"], "accuracy": here[1], "accuracy_worst": best["accuracy"]}


def _length(tensors) -> float:
    return float(torch.stack([t.detach().double().square().sum() for t in tensors]).sum().sqrt())


@torch.no_grad()
def _value(net: nn.Module, objective, x: Tensor, y: Tensor) -> tuple[float, float]:
    logits = net(x)
    return float(objective(logits, y).double().mean()), float((answers(logits) == y).double().mean())

"""What alignment is: the rate at which the loss grows when a layer's weights are scaled up.

Let h be the input of a weight layer, u = W h (+ b), g = ∂ℓ/∂h and L = Σ_i ℓ_i over any set of images. If h is used there and nowhere else,

    g = Wᵀ ∂ℓ/∂u                                                    (chain rule)
    ⟨h, g⟩ = ⟨W h, ∂ℓ/∂u⟩ = ⟨W, ∂ℓ/∂u hᵀ⟩ = ⟨W, ∂ℓ/∂W⟩             (the layer is linear in W, a convolution too)
    Σ_i ‖h_i‖ ‖g_i‖ a_i = ⟨W, ∂L/∂W⟩ = d/dc L(… c·W …) at c = 1     (summed, with a the alignment)

for any architecture and any loss. It must be read differently where
- a residual connection or a second layer takes h too: g then holds their part as well; `Sides.through` leaves it out;
- a layer runs twice: W collects both, so the sum of both inputs' sides equals it;
- batch normalisation in training mode follows: the right side is 0 but for the constant in the normalisation, so alignments sum to nothing.
"""

from collections import defaultdict
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .arguments import check_batch, check_labels, check_logits_type, check_run
from .losses import get_loss


@dataclass(frozen=True)
class Sides:
    """Both sides of the identity at a layer, sums over all images and all calls of the layer.

    aligned: Σ⟨h, g⟩ with the whole gradient g; through: the same with the part of g that comes through this layer; growth: ⟨W, ∂L/∂W⟩
    """

    aligned: float
    through: float
    growth: float


def scale_identity(model: nn.Module, x: Tensor, y: Tensor, *, loss: str = "mse") -> dict[str, Sides]:
    """{weight layer: both sides of the identity}, in the order in which the layers run; through = growth up to rounding.

    model: any module in the mode that is asked about, its linear and convolution layers are looked at; x (B, ...) in [0, 1], y (B,)
    class indices; loss: as in `gfa.gfa_terms`. Take float64 to see more than six digits. The model's gradients are left alone.
    """
    check_batch(model, x)
    y, objective = check_labels(y, len(x), values=True), get_loss(loss)
    layers = {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear | nn.modules.conv._ConvNd)}
    if not layers:
        raise ValueError("the model has no linear or convolution layer")
    weights = {f"{name}.weight": m.weight.detach().requires_grad_() for name, m in layers.items()}
    calls: dict[str, list[tuple[Tensor, Tensor]]] = defaultdict(list)

    def branch(name):
        def take(_module, args):
            h, *rest = args
            own = h.view_as(h)  # what flows back to this twin has come through the layer
            calls[name].append((h, own))
            return own, *rest

        return take

    handles = [module.register_forward_pre_hook(branch(name)) for name, module in layers.items()]
    try:
        with torch.enable_grad():
            logits = check_run(_With(model, weights), x.detach().clone().requires_grad_().clone())
            check_logits_type(logits, len(x))
            names = list(calls)
            flat = [value for name in names for pair in calls[name] for value in pair]
            used = [weights[f"{name}.weight"] for name in names]
            grads = iter(torch.autograd.grad(objective(logits, y).sum(), flat + used))
    finally:
        for handle in handles:
            handle.remove()
    sums = {name: [_inner(value, next(grads)) for pair in calls[name] for value in pair] for name in names}
    growth = {name: _inner(weight, next(grads)) for name, weight in zip(names, used, strict=True)}
    return {name: Sides(sum(sums[name][::2]), sum(sums[name][1::2]), growth[name]) for name in names}


class _With(nn.Module):
    """`model` with other weights, its own left as they are."""

    def __init__(self, model: nn.Module, weights: dict[str, Tensor]):
        super().__init__()
        self.model, self.weights = model, weights

    def forward(self, x: Tensor) -> Tensor:
        return torch.func.functional_call(self.model, self.weights, x)


def _inner(a: Tensor, b: Tensor) -> float:
    return float((a.detach().double() * b.double()).sum())

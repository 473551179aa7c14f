"""Gradient-Feature Alignment (GFA): the regulariser of DeepDefense (Lin et al. 2025, arXiv 2511.13749).

    loss = mean over samples of [ ℓ(z, y) + lam · Σ_l w_l · p(a_l) ],   a_l = cos(h_l, ∂ℓ/∂h_l)

with p(a) = 1 − a for the form "cos". FIRST takes the image as the network sees it, DEEP the inputs of all weight layers.
Everything that the paper leaves open is a keyword of `gfa_terms`. The model is handed a copy of the images, so it may write into it;
a sample whose loss is NaN has the alignment NaN.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from . import taps
from .arguments import check_batch, check_labels, check_logits_type, checked_whole, plain_number
from .double_backward import TwiceDifferentiable, check_second_derivative, second_derivatives
from .geometry import alignment
from .losses import get_loss

# What is minimised, as a function of the alignment a. All lie between 0 (best) and 2 (worst).
FORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "cos": lambda a: 1 - a,  # the paper's: gradient along +h, so the loss rises with contrast
    "abs": lambda a: 1 - a.abs(),  # either sign
    "square": lambda a: 1 - a.square(),  # either sign, flat at a = 0
    "negative": lambda a: 1 + a,  # gradient along −h
}
REDUCTIONS = ("sum", "mean")


@dataclass(frozen=True)
class GFATerms:
    """The parts of the GFA loss. `alignments` maps tap name -> (B,); the scalars are means over the batch."""

    loss: Tensor
    task: Tensor
    penalty: Tensor
    alignments: dict[str, Tensor]
    logits: Tensor


def _number(lam) -> float:
    """lam as a Python number; a ValueError unless it is finite and at least 0."""
    number = plain_number(lam)
    if number is None or not (math.isfinite(number) and number >= 0):
        raise ValueError(f"lam must be a finite number of at least 0, got {lam!r}")
    return number


def _check(form: str, reduction: str) -> None:
    if form not in FORMS:
        raise ValueError(f"form must be one of {', '.join(FORMS)}; got {form!r}")
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {', '.join(REDUCTIONS)}; got {reduction!r}")


def gfa_terms(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    lam: float | Tensor,
    layers: str | Sequence[str] = "first",
    form: str = "cos",
    loss: str = "mse",
    reduction: str = "sum",
    weights: Sequence[float] | None = None,
    detach_features: bool = False,
) -> GFATerms:
    """The GFA loss of a batch, with its parts.

    model: any nn.Module, x (B, ...) in [0, 1] -> logits (B, K); x is what the model takes, y (B,) class indices
    lam: weight of the penalty, a number, or a scalar tensor (not checked then: that would keep a GPU waiting)
    layers: "first", "deep" or a list of tap names (see `deepdefense.taps`); "deep" warns of modules with weights that it has no tap at
    form: "cos" 1 − a, "abs" 1 − |a|, "square" 1 − a², "negative" 1 + a
    loss: "mse" (squared error summed over classes, the paper's kind), "ce" or "margin"; λ is in units of this loss
    reduction: "sum" or "mean" over the layers; weights: one w_l per layer in forward order, all 1 by default
    detach_features: True stops the gradient at h_l inside a_l, so that only the gradient is turned, not the feature

    In training mode batch normalisation couples the samples; the gradients are then those of the batch's summed loss, and where it
    follows a layer, their alignments there cannot rise together (see `normalisation.fixed_statistics`).
    Differentiable once more, so `terms.loss.backward()` reaches the weights. Runs under `torch.no_grad` and inference mode too.
    ValueError: in one sentence, for labels that are not one class index (any integer type) a sample, an answer that is not logits
    (B, K), a compiled model, and operations that torch cannot differentiate twice. Attention runs by torch's "math" kernel, which it can.
    """
    lam = lam if isinstance(lam, Tensor) else _number(lam)
    _check(form, reduction)
    check_batch(model, x)
    y = check_labels(y, len(x))
    objective = get_loss(loss)
    with torch.inference_mode(False), torch.enable_grad():
        x = x.clone() if x.is_inference() else x
        own = None if x.requires_grad else x.detach().requires_grad_()  # a leaf whose gradient nobody can ask for
        with TwiceDifferentiable(own) as inner, second_derivatives(model):
            logits, caught = taps.forward(model, (x if own is None else own).clone(), layers, warn=True)
        check_logits_type(logits, len(y))
        task = objective(logits, y)
        with inner.inputs_only():
            grads = _gradients(task, caught, create_graph=True)
        check_second_derivative(model, grads)
        lost = task.detach().isnan()
        features = [tap.value.detach() if detach_features or inner.is_root(tap.value) else tap.value for tap in caught]
        aligned = {tap.name: alignment(h, g).masked_fill(lost, torch.nan) for tap, h, g in zip(caught, features, grads, strict=True)}
        if weights is None:
            weights = [1.0] * len(aligned)
        if len(weights) != len(aligned):
            raise ValueError(f"weights needs one number per layer ({len(aligned)}: {list(aligned)}), got {len(weights)}")
        per_layer = [w * FORMS[form](a) for w, a in zip(weights, aligned.values(), strict=True)]
        penalty = torch.stack(per_layer).sum(0)
        if reduction == "mean":
            penalty = penalty / len(per_layer)
        total = (task + lam * penalty).mean()
    return GFATerms(total, task.mean(), penalty.mean(), aligned, logits)


def _gradients(task: Tensor, caught: list[taps.Tap], **options) -> tuple[Tensor, ...]:
    """Gradients of the summed loss at the taps; a ValueError names a tap that it does not depend on, or that is no batch."""
    for tap in caught:
        if tap.value.shape[:1] != task.shape:
            raise ValueError(
                f"the input of layer {tap.name!r} has shape {tuple(tap.value.shape)}: its first axis must be the batch of {len(task)}; "
                "name other layers"
            )
    values = [tap.value for tap in caught]
    attached = task.requires_grad and all(value.requires_grad for value in values)
    found: Sequence[Tensor | None] = [None] * len(values)
    if attached:
        found = torch.autograd.grad(task.sum(), values, allow_unused=True, **options)
    cut = [repr(tap.name) for tap, g in zip(caught, found, strict=True) if g is None]
    if cut:
        raise ValueError(
            f"the loss has no gradient at {', '.join(cut)} (a no_grad or detach inside the model, or a head that the logits do not come "
            "from?), so nothing can be aligned there; name other layers"
        )
    grads = tuple(g for g in found if g is not None)
    for tap, g in zip(caught, grads, strict=True):
        if g.dtype == torch.float16 and g.device.type == "cpu":
            weak = (g.detach().flatten(1).abs().amax(1) < torch.finfo(g.dtype).tiny) & (task.detach() != 0)
            if weak.any():
                few = f"{int(weak.sum())} of {len(g)} images"
                raise ValueError(f"the gradient of {few} is too small for float16 at layer {tap.name!r}; take float32 or bfloat16")
    return grads


def gfa_loss(model: nn.Module, x: Tensor, y: Tensor, *, lam: float, **options) -> Tensor:
    """The GFA loss of a batch, a scalar to call `.backward()` on. Keywords: those of `gfa_terms`."""
    return gfa_terms(model, x, y, lam=lam, **options).loss


def layer_gradients(
    model: nn.Module, x: Tensor, y: Tensor, *, layers: str | Sequence[str] = "deep", loss: str = "mse"
) -> dict[str, tuple[Tensor, Tensor]]:
    """{tap: (h, g)}: each layer input and the gradient of the per-sample loss there, both (B, ...), detached.

    The gradient of a sample whose loss is NaN is NaN. ValueError: as for `gfa_terms`, and for labels beyond the classes.
    """
    check_batch(model, x)
    objective = get_loss(loss)
    with torch.inference_mode(False), torch.enable_grad():
        logits, caught = taps.forward(model, x.detach().clone().requires_grad_().clone(), layers, warn=True)
        check_logits_type(logits, len(x))
        y = check_labels(y, len(x), logits.shape[1], values=True)
        task = objective(logits, y)
        grads = _gradients(task, caught)
    lost = task.detach().isnan()
    if lost.any():
        grads = tuple(g.masked_fill(lost.view(-1, *[1] * (g.dim() - 1)), torch.nan) for g in grads)
    return {tap.name: (tap.value.detach(), g) for tap, g in zip(caught, grads, strict=True)}


def measure_alignment(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    layers: str | Sequence[str] = "deep",
    loss: str = "mse",
    batch_size: int = 500,
) -> dict[str, Tensor]:
    """Alignment of every sample at every tap, {name: (N,)}, without a graph of the weights.

    Runs the model in the mode it is in; put it in eval mode first for per-sample gradients under batch normalisation.
    ValueError: as for `layer_gradients`.
    """
    check_batch(model, x)
    y, batch_size = check_labels(y, len(x), values=True), checked_whole("batch_size", batch_size, least=1)
    chunks: dict[str, list[Tensor]] = {}
    for xb, yb in zip(x.split(batch_size), y.split(batch_size), strict=True):
        for name, (h, g) in layer_gradients(model, xb, yb, layers=layers, loss=loss).items():
            chunks.setdefault(name, []).append(alignment(h, g))
    return {name: torch.cat(parts) for name, parts in chunks.items()}

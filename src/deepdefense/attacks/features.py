"""Attacks on the features: move the input of an inner layer away from the clean one, or towards that of another image.

They use no logits to climb, so a last layer that hides its gradient (saturation, another loss) does not stop them.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .. import taps
from ..arguments import check_whole
from ..inference import frozen, wrong
from .contract import check_inputs, check_output
from .linf_ascent import Score, climb, shrinking, uniform_start, worst_of


def inner_layers(model: nn.Module, x: Tensor) -> list[str]:
    """Names of the weight layers whose inputs are features: all in forward order but the first, which sees the image.

    x (B, ...) images, one is enough. Empty for a model with one weight layer or none. Of a random model that leaves
    layers out (stochastic depth) they are those of the first pass that reaches any.
    """
    known = taps.tap_names(model)
    if not known:
        return []
    for _ in range(taps.DRAWS if len(known) > 1 else 1):
        with frozen(model), torch.no_grad():
            _, caught = taps.forward(model, x[:1].detach(), "deep")
        if names := [tap.name for tap in caught[1:] if "#" not in tap.name]:
            return names
    return []


def _feature_score(model: nn.Module, y: Tensor, layer: str, anchor: Tensor, sign: float) -> Score:
    """sign · squared distance of the layer's input to `anchor`, relative to the anchor's own size."""
    size = anchor.flatten(1).square().sum(1).clamp(min=1e-12)

    def score(x_adv: Tensor) -> tuple[Tensor, Tensor]:
        logits, value = taps.forward_reaching(model, x_adv, layer)
        moved = (value - anchor).flatten(1).square().sum(1) / size
        return sign * moved, wrong(logits.detach(), y)

    return score


def feature_pgd(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float = 8 / 255,
    steps: int = 30,
    layers: Sequence[str] | None = None,
    guides: tuple[Tensor, Tensor] | None = None,
    seed: int = 0,
) -> Tensor:
    """L∞ PGD on the inputs of inner layers, one layer after the other; the worst per image, (B, C, H, W).

    layers: names of submodules (see `deepdefense.taps`), by default every weight layer but the first
    guides: None moves the features away from the clean ones; (images (G, C, H, W) in [0, 1], labels (G,)) moves them
    towards those of the guide of another class whose features are nearest (Sabour et al. 2016)
    Raises ValueError for a model without inner layers, or guides that offer an image no other class.
    """
    x, y = check_inputs(model, x, y, eps)
    check_whole(steps=steps)
    if guides is not None:
        guides = check_inputs(model, *guides, 0)
        alone = [label for label in y.unique().tolist() if bool((guides[1] == label).all())]
        if alone:
            raise ValueError(f"guides must hold an image of another class than {alone[0]}")
    if len(x) == 0:
        return x.clone()
    names = inner_layers(model, x) if layers is None else taps.resolve(model, layers)
    if not names:
        raise ValueError("the model has no inner weight layer whose input could be attacked; pass names of submodules")
    start = uniform_start(x, eps, torch.Generator(x.device).manual_seed(seed))

    def attempt(layer: str):
        def run(index: Tensor) -> Tensor:
            own = taps.forward_reaching(model, x[index], layer)[1]
            anchor, sign = (own, 1.0) if guides is None else (_nearest_guide(model, own, y[index], layer, guides), -1.0)
            score = _feature_score(model, y[index], layer, anchor, sign)
            return climb(score, x[index], eps=eps, sizes=shrinking(eps, steps), start=start[index]).best

        return run

    with frozen(model):
        x_adv = worst_of(model, x, y, [attempt(name) for name in names])
    return check_output(x, x_adv, eps, "feature PGD")


def _nearest_guide(model: nn.Module, own: Tensor, y: Tensor, layer: str, guides: tuple[Tensor, Tensor]) -> Tensor:
    """For each of the features `own` (B, ...) those of the nearest guide of another class."""
    features = taps.forward_reaching(model, guides[0], layer)[1]
    distance = torch.cdist(own.flatten(1), features.flatten(1))
    distance = distance.masked_fill(y[:, None] == guides[1][None, :], torch.inf)
    return features[distance.argmin(1)]

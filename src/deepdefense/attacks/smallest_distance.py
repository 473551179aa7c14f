"""How far is the nearest wrong image? Per-image minimum over attacks; failures are ∞, never 0 and never dropped."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..arguments import check_choice, check_whole
from ..inference import batch_seed, frozen, predict
from .contract import NORMS, Attack, check_inputs, distances
from .minimum_norm import _wrong

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)


@dataclass(frozen=True)
class Minimum:
    """Distance in `norm` of each of N images to the nearest one that the model gets wrong, of all that attacks found.

    correct (N,): right before any attack (NaN among the logits is no right answer); only these have a distance, others NaN
    distance (N,): ∞ where every attack failed; x_adv (N, ...): the nearest image, the clean one where there is none
    by_attack[name] (N,): each attack's own distance; winner (N,): index into `by_attack` of the nearest, −1 for none
    """

    norm: str
    correct: Tensor
    distance: Tensor
    x_adv: Tensor
    by_attack: dict[str, Tensor]
    winner: Tensor


@dataclass(frozen=True)
class Summary:
    """Distances of n images in short: failures stay in as ∞, so a quantile above the share of successes is ∞."""

    n: int
    median: float
    quantiles: dict[float, float]
    failed: float

    def to_dict(self) -> dict:
        """JSON form; None stands for ∞."""

        def number(value: float) -> float | None:
            return None if value == float("inf") else value

        quantiles = {f"{q:g}": number(value) for q, value in self.quantiles.items()}
        return {"n": self.n, "median": number(self.median), "quantiles": quantiles, "failed": self.failed}


def tighten(model: nn.Module, x: Tensor, y: Tensor, x_adv: Tensor, *, steps: int = 10) -> Tensor:
    """Pull adversarial images towards the clean ones: `steps` bisections of each segment, the model staying wrong.

    x, x_adv (B, ...) in [0, 1], y (B,). Costs steps + 2 forward passes. Where x_adv is right it is returned as it is.
    The result lies one last interval (2^−steps of the segment) farther out than the bisection ended, if the model is
    wrong there too: so near the boundary, rounding in another batch size could flip it.
    """
    x, y = check_inputs(model, x, y, 0.0)
    if x_adv.shape != x.shape:
        raise ValueError(f"x_adv must have the shape of x, {tuple(x.shape)}; got {tuple(x_adv.shape)}")
    check_whole(steps=steps)
    x_adv = x_adv.detach()
    if len(x) == 0:
        return x_adv.clone()
    shape = (-1, *[1] * (x.dim() - 1))

    def at(share: Tensor) -> Tensor:
        return torch.lerp(x, x_adv, share.view(shape)).clamp(0, 1)

    with frozen(model):
        success = _wrong(model, x_adv, y)
        inner, outer = x.new_zeros(len(x)), x.new_ones(len(x))
        for _ in range(steps):
            middle = (inner + outer) / 2
            there = _wrong(model, at(middle), y)
            inner, outer = torch.where(there, inner, middle), torch.where(there, middle, outer)
        safe = 2 * outer - inner
        share = torch.where(_wrong(model, at(safe), y), safe, outer)
    return torch.where(success.view(shape), at(share), x_adv)


def minimum_over(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    attacks: Mapping[str, Attack],
    norm: str,
    *,
    batch_size: int = 500,
    bisections: int = 10,
    seed: int = 0,
) -> Minimum:
    """Run every minimum-norm attack on the images that `model` gets right; keep, per image, the nearest success.

    x (N, C, H, W) in [0, 1], y (N,); norm: "linf", "l2" or "l1"; attacks: name -> (model, x, y, *, seed) -> x_adv
    bisections: how finely each success is pulled towards the clean image (`tighten`); 0 leaves attacks as they are
    Each batch has a seed of its own, derived from `seed`.
    """
    x, y = check_inputs(model, x, y, 0.0)
    check_choice("norm", norm, NORMS)
    if not attacks or len(y) == 0 or batch_size < 1 or bisections < 0:
        raise ValueError("minimum_over needs an attack, an image, batch_size of 1 or more, bisections of 0 or more")
    with frozen(model):
        correct = predict(model, x, batch_size) == y
    blank = torch.where(correct, torch.inf, torch.nan).to(x)
    by_attack = {name: blank.clone() for name in attacks}
    nearest, distance, winner = x.clone(), blank.clone(), torch.full_like(y, -1, dtype=torch.long)
    index = correct.nonzero().squeeze(1)
    for number, part in enumerate(index.split(batch_size) if len(index) else ()):
        for i, (name, attack) in enumerate(attacks.items()):
            found = attack(model, x[part], y[part], seed=batch_seed(seed, number)).detach()
            if bisections:
                found = tighten(model, x[part], y[part], found, steps=bisections)
            with frozen(model):
                success = _wrong(model, found, y[part])
            apart = torch.where(success, distances(x[part], found, norm), torch.inf)
            by_attack[name][part] = apart
            better = apart < distance[part]
            distance[part] = torch.where(better, apart, distance[part])
            winner[part[better]] = i
            nearest[part[better]] = found[better]
    return Minimum(norm, correct, distance, nearest, by_attack, winner)


def summary(distance: Tensor, quantiles: Sequence[float] = QUANTILES) -> Summary:
    """Median, quantiles and share of failures (∞) of distances (N,) of images that were right before any attack.

    A quantile q is the least distance that at least a share q of the images does not exceed: one of the distances,
    never a mean of two, so ∞ has its place. The median is the quantile 0.5. ValueError for NaN: leave out images wrong
    from the start (`m.distance[m.correct]`).
    """
    if distance.dim() != 1 or len(distance) == 0:
        raise ValueError(f"distances must be a non-empty vector, got shape {tuple(distance.shape)}")
    if distance.isnan().any() or (distance < 0).any():
        raise ValueError("distances hold NaN or negative numbers; leave out images that were wrong before any attack")
    if not all(0 < q <= 1 for q in quantiles):
        raise ValueError(f"quantiles must lie above 0 and up to 1, got {tuple(quantiles)}")
    ordered, n = distance.sort().values.tolist(), len(distance)

    def quantile(q: float) -> float:
        return ordered[max(0, -int(-q * n // 1) - 1)]  # ceil(q n) − 1

    return Summary(n, quantile(0.5), {q: quantile(q) for q in quantiles}, distance.isinf().float().mean().item())

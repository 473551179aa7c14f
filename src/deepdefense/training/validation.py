"""How good a network is while it is trained, and in the end; whether it collapsed or diverged."""

import math

import torch
from torch import Tensor, nn

from .. import data
from ..attacks.projected_gradient import loss_pgd
from ..geometry import alignment
from ..gfa import layer_gradients, measure_alignment
from ..inference import answers, frozen, predict
from .config import TrainConfig

SLOW_START = 1 / 3  # share of a run within which one that has not learnt anything yet is not given up
SUBSET = 500  # training images, the first ones and not augmented, whose alignment every epoch records


def at_chance(clean: float, y: Tensor) -> bool:
    """Is the accuracy `clean` on labels `y` no better than always answering the commonest class (3 σ)?"""
    share = torch.bincount(y).max().item() / len(y)
    return clean <= share + 3 * math.sqrt(share * (1 - share) / len(y))


def mean_alignments(model: nn.Module, x: Tensor, y: Tensor, loss: str, batch_size: int = 500) -> dict[str, dict[str, float | None]]:
    """{tap: {"mean", "weighted"}} of images x (N, C, H, W) in [0, 1], in forward order, so that the input comes first.

    mean: of the alignments a_i. weighted: Σ ‖h_i‖ ‖g_i‖ a_i / Σ ‖h_i‖ ‖g_i‖, the rate at which the loss grows with the scale of that
    layer's weights, as a share of the most it could be. None where it is not finite.
    """
    aligned: dict[str, list[Tensor]] = {}
    lengths: dict[str, list[Tensor]] = {}
    with frozen(model):
        for xb, yb in zip(x.split(batch_size), y.split(batch_size), strict=True):
            for name, (h, g) in layer_gradients(model, xb, yb, layers="deep", loss=loss).items():
                aligned.setdefault(name, []).append(alignment(h, g))
                norms = [torch.linalg.vector_norm(v.flatten(1), dim=1, dtype=torch.float64) for v in (h, g)]
                lengths.setdefault(name, []).append(norms[0] * norms[1])
    found = {}
    for name in aligned:
        a, length = torch.cat(aligned[name]), torch.cat(lengths[name])
        weighted = (length * a).sum() / length.sum() if length.any() else length.sum()  # without a gradient 0, as each a is
        found[name] = {"mean": a.mean().item(), "weighted": weighted.item()}
    return {name: {key: value if math.isfinite(value) else None for key, value in both.items()} for name, both in found.items()}


def _alignment_row(part: str, taps: dict) -> dict:
    """The alignments of the images called `part` as they stand in a history; the first tap is the input."""
    first = next(iter(taps.values()))
    return {f"{part}_alignment": first["mean"], f"{part}_alignment_weighted": first["weighted"], f"{part}_alignment_taps": taps}


def validate(config: TrainConfig, model: nn.Module, val: data.Split, train: data.Split) -> dict:
    """Clean accuracy on all of `val`; accuracy under PGD (margin loss, best iterate) and alignments on its first images.

    The alignments of the first training images, as they are, stand beside: "train_subset_alignment" is the plain mean at the input,
    "…_weighted" the length-weighted one, "…_taps" both at every tap (see `mean_alignments`); "val_alignment" and so on alike.

    "finite": whether alignment and squared logits, and so the losses, are finite numbers; weights can be where they are not.
    """
    some = val[: config.val_size]
    x = some.images()
    attacked = loss_pgd(model, x, some.y, eps=config.val_eps, steps=config.val_steps, loss="margin", seed=config.seed)
    with frozen(model), torch.no_grad():
        logits = [model(part) for part in val.images().split(1000)]
    right = answers(torch.cat(logits)) == val.y
    clean = right.float().mean().item()
    robust = (right[: len(some)] & (predict(model, attacked) == some.y)).float().mean().item()
    subset = train[:SUBSET]
    aligned = _alignment_row("val", mean_alignments(model, x, some.y, config.loss))
    return {
        "val_accuracy": clean,
        "val_robust_accuracy": robust,
        **aligned,
        **_alignment_row("train_subset", mean_alignments(model, subset.images(), subset.y, config.loss)),
        "at_chance": at_chance(clean, val.y),
        "finite": all(part.square().sum().isfinite() for part in logits) and aligned["val_alignment"] is not None,
    }


def _learnt(row: dict, y: Tensor) -> bool:
    """Is the accuracy of an epoch above chance, and twice the share of the commonest class (or halfway from it to 1, if that is less)?"""
    share = torch.bincount(y).max().item() / len(y)
    return not row["at_chance"] and row["val_accuracy"] >= min(2 * share, (1 + share) / 2)


def stopped(config: TrainConfig, history: list[dict], y: Tensor) -> bool:
    """Is training over before its last epoch? It is once a loss was not finite, or the run has collapsed for good.

    That is when its last `config.stop_at_chance` epochs all ended at chance on the validation labels `y` (None: never), during a
    warm-up too, and it had learnt something before. A run that has not yet, as adversarial training in its first epochs, is given
    the first third of its epochs to begin.
    """
    if any(not row["finite"] for row in history):
        return True
    n = config.stop_at_chance
    if n is None or len(history) < n or not all(row["at_chance"] for row in history[-n:]):
        return False
    return len(history) >= max(n, math.ceil(SLOW_START * config.epochs)) or any(_learnt(row, y) for row in history)


def score(config: TrainConfig, row: dict) -> float:
    """What the best epoch is chosen by."""
    clean, robust = row["val_accuracy"], row["val_robust_accuracy"]
    return {"clean": clean, "robust": robust, "mean": (clean + robust) / 2}[config.select_by]


def test_metrics(config: TrainConfig, model: nn.Module, test: data.Split) -> dict:
    """Accuracy on all of `test`, alignment of every layer on its first 1,000 images."""
    some = test[:1000]
    with frozen(model):
        aligned = measure_alignment(model, some.images(), some.y, layers="deep", loss=config.loss)
    return {
        "test_accuracy": accuracy(model, test),
        "test_alignment": {name: a.mean().item() if a.isfinite().all() else None for name, a in aligned.items()},
        "test_alignment_n": len(some),
    }


def status(config: TrainConfig, history: list[dict]) -> tuple[str, list[int]]:
    """("finished" | "collapsed" | "diverged", epochs after warm-up (and the one it ended with) that ended at chance, from 1)."""
    if not history[-1]["finite"]:
        return "diverged", []
    first = math.ceil(config.warmup * config.epochs)
    fallen = [row["epoch"] for row in history if row["at_chance"] and (row["epoch"] > first or row is history[-1])]
    return ("collapsed" if history[-1]["at_chance"] else "finished"), fallen


def accuracy(model: nn.Module, split: data.Split) -> float:
    """Share of `split` that `model` classifies correctly, in [0, 1]; no answer is no right one."""
    return (predict(model, split.images()) == split.y).float().mean().item()

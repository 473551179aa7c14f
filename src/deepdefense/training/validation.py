"""How good a network is while it is trained, and in the end; whether it collapsed or diverged."""

import math

import torch
from torch import nn

from .. import data
from ..attacks.projected_gradient import loss_pgd
from ..gfa import measure_alignment
from ..inference import frozen, predict
from .config import TrainConfig


def at_chance(clean: float, y: torch.Tensor) -> bool:
    """Is the accuracy `clean` on labels `y` no better than always answering the commonest class (3 σ)?"""
    share = torch.bincount(y).max().item() / len(y)
    return clean <= share + 3 * math.sqrt(share * (1 - share) / len(y))


def validate(config: TrainConfig, model: nn.Module, val: data.Split) -> dict:
    """Clean accuracy on all of `val`; accuracy under PGD (margin loss, best iterate) and alignment on its first images.

    "finite": whether alignment and squared logits, and so the losses, are finite numbers; weights can be where they are not.
    """
    some = val[: config.val_size]
    x = some.images()
    attacked = loss_pgd(model, x, some.y, eps=config.val_eps, steps=config.val_steps, loss="margin", seed=config.seed)
    with frozen(model), torch.no_grad():
        logits = [model(part) for part in val.images().split(1000)]
    right = torch.cat(logits).argmax(1) == val.y
    clean = right.float().mean().item()
    robust = (right[: len(some)] & (predict(model, attacked) == some.y)).float().mean().item()
    with frozen(model):
        aligned = next(iter(measure_alignment(model, x, some.y, layers="first", loss=config.loss).values())).mean().item()
    return {
        "val_accuracy": clean,
        "val_robust_accuracy": robust,
        "val_alignment": aligned,
        "at_chance": at_chance(clean, val.y),
        "finite": all(part.square().sum().isfinite() for part in logits) and math.isfinite(aligned),
    }


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
    """("finished" | "collapsed" | "diverged", epochs after warm-up (or the last one) that ended at chance, from 1)."""
    if not history[-1]["finite"]:
        return "diverged", []
    first = math.ceil(config.warmup * config.epochs)
    fallen = [row["epoch"] for row in history if row["at_chance"] and (row["epoch"] > first or row["epoch"] == config.epochs)]
    return ("collapsed" if history[-1]["at_chance"] else "finished"), fallen


def accuracy(model: nn.Module, split: data.Split) -> float:
    """Share of `split` that `model` classifies correctly, in [0, 1]."""
    return (predict(model, split.images()) == split.y).float().mean().item()

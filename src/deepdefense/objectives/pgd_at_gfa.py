"""Adversarial training with GFA beside it: `pgd_at` on attacked images, the penalty of GFA (see `gfa`) on the clean ones.

The loss of the clean images is not trained on, it only gives the gradients that are aligned.
"""

from contextlib import nullcontext

from ..batch_norm import fixed_statistics
from ..gfa import gfa_terms
from . import gfa, pgd_at
from .closed_loop import REACHED

OPTIONS = {**gfa.OPTIONS, **pgd_at.OPTIONS}


def objective(
    model,
    x,
    y,
    step,
    *,
    layers="first",
    loss="mse",
    form="cos",
    reduction="sum",
    weights=None,
    detach_features=False,
    statistics="batch",
    target=None,
    eps=8 / 255,
    attack_steps=7,
    alpha=2 / 255,
):
    options = dict(layers=layers, form=form, loss=loss, reduction=reduction, weights=weights, detach_features=detach_features)
    with fixed_statistics(model) if statistics == "fixed" else nullcontext():
        task, log = pgd_at.objective(model, x, y, step, loss=loss, eps=eps, attack_steps=attack_steps, alpha=alpha)
        terms = gfa_terms(model, x, y, lam=0.0, **options)
    first = next(iter(terms.alignments.values()))
    log = {**log, "penalty": terms.penalty.detach(), "alignment": first.detach().mean()}
    log = log if target is None else log | {REACHED: gfa.reached(terms.alignments, form, weights)}
    return task + step.lam * terms.penalty, log

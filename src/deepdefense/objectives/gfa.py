"""Gradient-Feature Alignment as a training objective; `deepdefense.gfa` has the mathematics and the options.

statistics: "batch", or "fixed": batch normalisation keeps the statistics that the network started with, for the task and the
penalty (see `deepdefense.batch_norm`), so it wants a network that has some (start = "plain")
target: None, or the alignment that λ is steered to (see `deepdefense.objectives.closed_loop`), of what the form pursues (a for "cos",
−a for "negative", |a|, a²), averaged over the layers with their weights
"""

from contextlib import nullcontext

from ..arguments import number, numbers_or_none, one_of, or_none, yes_or_no
from ..batch_norm import STATISTICS, fixed_statistics
from ..gfa import FORMS, REDUCTIONS, gfa_terms
from ..losses import LOSSES
from .closed_loop import REACHED

OPTIONS = {
    "loss": one_of(LOSSES),
    "form": one_of(FORMS),
    "reduction": one_of(REDUCTIONS),
    "weights": numbers_or_none,
    "detach_features": yes_or_no,
    "statistics": one_of(STATISTICS),
    "target": or_none(number(0, 1, above=True)),
}


def reached(alignments, form, weights):
    """What `form` pursues, the mean over the batch and the layers: a scalar between −1 and 1."""
    weights = [1.0] * len(alignments) if weights is None else weights
    pursued = [w * (1 - FORMS[form](a.detach())).mean() for w, a in zip(weights, alignments.values(), strict=True)]
    return sum(pursued) / sum(weights)


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
):
    options = dict(layers=layers, form=form, loss=loss, reduction=reduction, weights=weights, detach_features=detach_features)
    with fixed_statistics(model) if statistics == "fixed" else nullcontext():
        terms = gfa_terms(model, x, y, lam=step.lam, **options)
    first = next(iter(terms.alignments.values()))
    log = {
        "task": terms.task.detach(),
        "penalty": terms.penalty.detach(),
        "alignment": first.detach().mean(),
    }
    return terms.loss, log if target is None else log | {REACHED: reached(terms.alignments, form, weights)}

"""Gradient-Feature Alignment as a training objective; `deepdefense.gfa` has the mathematics and the options.

statistics: "batch", or "fixed": batch normalisation keeps the statistics that the network started with, for the task and the
penalty (see `deepdefense.batch_norm`), so it wants a network that has some (start = "plain")
"""

from contextlib import nullcontext

from ..arguments import numbers_or_none, one_of, yes_or_no
from ..batch_norm import STATISTICS, fixed_statistics
from ..gfa import FORMS, REDUCTIONS, gfa_terms
from ..losses import LOSSES

OPTIONS = {
    "loss": one_of(LOSSES),
    "form": one_of(FORMS),
    "reduction": one_of(REDUCTIONS),
    "weights": numbers_or_none,
    "detach_features": yes_or_no,
    "statistics": one_of(STATISTICS),
}


def objective(
    model, x, y, step, *, layers="first", loss="mse", form="cos", reduction="sum", weights=None, detach_features=False, statistics="batch"
):
    options = dict(layers=layers, form=form, loss=loss, reduction=reduction, weights=weights, detach_features=detach_features)
    with fixed_statistics(model) if statistics == "fixed" else nullcontext():
        terms = gfa_terms(model, x, y, lam=step.lam, **options)
    first = next(iter(terms.alignments.values()))
    return terms.loss, {
        "task": terms.task.detach(),
        "penalty": terms.penalty.detach(),
        "alignment": first.detach().mean(),
    }

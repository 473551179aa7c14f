"""Gradient-Feature Alignment as a training objective; `deepdefense.gfa` has the mathematics and the options."""

from ..gfa import FORMS, REDUCTIONS, gfa_terms
from ..losses import LOSSES
from .options import numbers_or_none, one_of, yes_or_no

OPTIONS = {
    "loss": one_of(LOSSES),
    "form": one_of(FORMS),
    "reduction": one_of(REDUCTIONS),
    "weights": numbers_or_none,
    "detach_features": yes_or_no,
}


def objective(
    model, x, y, step, *, layers="first", loss="mse", form="cos", reduction="sum", weights=None, detach_features=False
):
    terms = gfa_terms(
        model,
        x,
        y,
        lam=step.lam,
        layers=layers,
        form=form,
        loss=loss,
        reduction=reduction,
        weights=weights,
        detach_features=detach_features,
    )
    first = next(iter(terms.alignments.values()))
    return terms.loss, {
        "task": terms.task.detach(),
        "penalty": terms.penalty.detach(),
        "alignment": first.detach().mean(),
    }

"""What a step of training minimises: `objective(model, x, y, step, **options) -> (loss, log)`, one file each.

x (B, C, H, W) in [0, 1], already augmented; `loss` is a scalar to differentiate, `log` scalars (tensors) to record.
To add one: a file with such a function, its keyword-only options with defaults, OPTIONS with a check for each of them (see
`options`), and a line in OBJECTIVES.
"""

import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch

from . import cure, gfa, gfa_fixed_scale, gnr, gradalign, mart, pgd_at, pgd_at_gfa, pgd_at_tangential, standard, tangential_gnr, trades


@dataclass(frozen=True)
class Step:
    """What the loop tells an objective: λ (a scalar tensor in a closed loop), and the generator of this epoch (on the data's device)."""

    lam: float | torch.Tensor
    generator: torch.Generator


OBJECTIVES: dict[str, Callable] = {
    "standard": standard.objective,
    "gfa-first": partial(gfa.objective, layers="first"),
    "gfa-deep": partial(gfa.objective, layers="deep"),
    "pgd-at": pgd_at.objective,
    "gnr": gnr.objective,
    "trades": trades.objective,
    "tangential-gnr": tangential_gnr.objective,
    "gradalign": gradalign.objective,
    "cure": cure.objective,
    "mart": mart.objective,
    "gfa-first-fixed-scale": partial(gfa_fixed_scale.objective, layers="first"),
    "gfa-deep-fixed-scale": partial(gfa_fixed_scale.objective, layers="deep"),
    "pgd-at-gfa-first": partial(pgd_at_gfa.objective, layers="first"),
    "pgd-at-gfa-deep": partial(pgd_at_gfa.objective, layers="deep"),
    "pgd-at-tangential": pgd_at_tangential.objective,
}


def option_defaults(name: str) -> dict:
    """The options of the objective `name` with their defaults; a ValueError names the objectives there are."""
    if name not in OBJECTIVES:
        raise ValueError(f"objective must be one of {', '.join(OBJECTIVES)}; got {name!r}")
    parameters = inspect.signature(OBJECTIVES[name]).parameters.values()
    bound = getattr(OBJECTIVES[name], "keywords", {})
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in bound}


def check_options(name: str, options: Mapping) -> None:
    """A ValueError naming the option, what is allowed and what was given, unless all of `options` suit the objective."""
    function = OBJECTIVES[name]
    checks = sys.modules[getattr(function, "func", function).__module__].OPTIONS
    for option, value in options.items():
        if allowed := checks[option](value):
            raise ValueError(f"{option} must be {allowed}; got {value!r}")


def build(name: str, options: Mapping) -> Callable:
    """The objective `name` with its options set: a function (model, x, y, step) -> (loss, log)."""
    allowed = option_defaults(name)
    unknown = [key for key in options if key not in allowed]
    if unknown:
        raise ValueError(f"objective {name!r} has no option {unknown[0]!r}; it takes {', '.join(allowed) or 'none'}")
    check_options(name, options)
    return partial(OBJECTIVES[name], **options)

"""The suites by name: `suite(name, model, x, norm)` -> {attack name: attack}. To add one, write a function and give it a line.

An attack with a keyword `eps` is bounded, `attack(model, x, y, *, eps, seed) -> x_adv`; one without is of minimum norm,
`attack(model, x, y, *, seed) -> x_adv`.
"""

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from ..inference import frozen
from . import autoattack, paper
from .contract import Attack, check_inputs
from .features import feature_pgd, inner_layers
from .gradient import apgd, fgsm, pgd
from .minimum_norm import ddn, deepfool_l2, deepfool_linf, ead, fmn_linf, l2_margin
from .multi_targeted import multi_targeted_pgd
from .orthogonal import orthogonal_pgd
from .projected_gradient import loss_pgd, restarted_pgd, scaled_pgd
from .tangential import tangential_pgd
from .transfer_attacks import has_relu, smooth_pgd, transfer

STANDARD, ADAPTIVE = "standard", "adaptive"

# The gradient attacks of the paper's first table, through torchattacks, and PGD on the margin: quick.
GRADIENT: dict[str, Attack] = {
    "FGSM": fgsm,
    "PGD-20": partial(pgd, steps=20),
    "APGD-100": partial(apgd, steps=100),
    "PGD-20 margin": partial(loss_pgd, steps=20, loss="margin"),
}


MINIMUM: dict[str, dict[str, Attack]] = {
    "linf": {"DeepFool": deepfool_linf, "FMN": fmn_linf},
    "l2": {"DeepFool": deepfool_l2, "DDN": ddn, "DDN, scaled logits": partial(ddn, gap=10.0), "L2 margin": l2_margin},
    "l1": {"EAD-L1": partial(ead, rule="l1", beta=1e-2)},
}


def _standard(model: nn.Module, x: Tensor, norm: str) -> dict[str, Attack]:
    parts: tuple[Attack, ...] = (autoattack.apgd_ce, autoattack.apgd_t, autoattack.fab_t, autoattack.square)
    return {name: partial(part, norm=norm) for name, part in zip(autoattack.PARTS, parts, strict=True)}


# One line a suite: (model, some images, norm) -> {name: attack}; the adaptive one takes what more is known of the model.
SUITES: dict[str, Callable[..., Mapping[str, Attack]]] = {
    "gradient": lambda model, x, norm: GRADIENT if norm == "linf" else {},
    "paper": lambda model, x, norm: paper.BOUNDED if norm == "linf" else paper.BOUNDED_L2 | paper.MINIMUM_NORM,
    STANDARD: _standard,
    ADAPTIVE: lambda model, x, norm, **known: suite_adaptive(model, x, **known) if norm == "linf" else {},
    "minimum_norm": lambda model, x, norm: MINIMUM[norm],
}


def suite(name: str, model: nn.Module, x: Tensor, norm: str = "linf", **known) -> dict[str, Attack]:
    """The attacks of suite `name` on `model` for `norm` ("linf" or "l2"); empty if it has none for that norm.

    x: an image or more (B, C, H, W); they tell which attacks the model admits
    known: what the adaptive suite can make use of: training_loss, substitutes, guides (see `attacks.suite_adaptive`)
    """
    if name not in SUITES:
        raise ValueError(f"suite must be one of {', '.join(SUITES)}; got {name!r}")
    return dict(SUITES[name](model, x, norm, **(known if name == ADAPTIVE else {})))


def suite_adaptive(
    model: nn.Module,
    x: Tensor,
    *,
    training_loss: str = "mse",
    substitutes: Mapping[str, nn.Module] | None = None,
    guides: tuple[Tensor, Tensor] | None = None,
    steps: int = 50,
    restarts: int = 2,
) -> dict[str, Attack]:
    """The adaptive attacks that apply to `model`, each `(model, x, y, *, eps, seed) -> x_adv` (L∞).

    x: images (at least one) that tell of which parts the model consists; training_loss: the loss it was trained with
    substitutes: networks to transfer from, such as those of `deepdefense.masking.substitutes`; guides: (images, labels) for the
    feature attack towards another class; steps: of each ascent; restarts: of the margin, multi-targeted and tangential ones

    Left out where it cannot run: DLR with two classes, features of a model without inner weight layers, smooth
    activations of a model without ReLU, transfer without substitutes, guided features without guides.
    """
    check_inputs(model, x, torch.zeros(len(x), dtype=torch.long, device="cpu"), 0)
    if len(x) == 0:
        raise ValueError("suite_adaptive needs at least one image")
    with frozen(model), torch.no_grad():
        classes = model(x[:1]).shape[1]
    losses = ["ce", "margin", *(["dlr"] if classes > 2 else [])]
    losses += [training_loss] if training_loss not in losses else []
    suite: dict[str, Attack] = {f"PGD {loss}": partial(loss_pgd, steps=steps, loss=loss) for loss in losses}
    suite["PGD margin, restarts"] = partial(restarted_pgd, steps=steps, restarts=restarts)
    suite["PGD scaled logits"] = partial(scaled_pgd, steps=steps)
    suite["multi-targeted PGD"] = partial(multi_targeted_pgd, steps=steps, restarts=restarts)
    for place in ("clean", "iterate"):
        suite[f"orthogonal PGD, {place}"] = partial(orthogonal_pgd, steps=steps, training_loss=training_loss, at=place)
    suite["tangential PGD"] = partial(tangential_pgd, steps=steps, restarts=restarts)
    if inner_layers(model, x):
        suite["features, away"] = partial(feature_pgd, steps=steps)
        if guides is not None:
            suite["features, guided"] = partial(feature_pgd, steps=steps, guides=guides)
    if has_relu(model, x):
        suite["smooth surrogate"] = partial(smooth_pgd, steps=steps)
    for name, substitute in (substitutes or {}).items():
        suite[f"transfer, {name}"] = transfer({name: substitute}, steps=steps)
    return suite

"""The adaptive suite: what somebody who knows the defence would try, as {name: attack} for one model."""

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from .adaptive import loss_pgd, restarted_pgd, scaled_pgd
from .features import feature_pgd, inner_layers
from .gfa_adaptive import orthogonal_pgd
from .guard import check_inputs, frozen
from .multitargeted import multi_targeted_pgd
from .transfer import has_relu, smooth_pgd, transfer


def suite_adaptive(
    model: nn.Module,
    x: Tensor,
    *,
    training_loss: str = "mse",
    substitutes: Mapping[str, nn.Module] | None = None,
    guides: tuple[Tensor, Tensor] | None = None,
    steps: int = 50,
    restarts: int = 2,
) -> dict[str, Callable[..., Tensor]]:
    """The adaptive attacks that apply to `model`, each `(model, x, y, *, eps, seed) -> x_adv` (L∞).

    x: images (at least one) that tell of which parts the model consists; training_loss: the loss it was trained with
    substitutes: networks to transfer from, such as those of `deepdefense.substitutes`; guides: (images, labels) for the
    feature attack towards another class; steps: of each ascent; restarts: of the margin and multi-targeted ones

    Left out where it cannot run: DLR with two classes, features of a model without inner weight layers, smooth
    activations of a model without ReLU, transfer without substitutes, guided features without guides.
    """
    check_inputs(model, x, torch.zeros(len(x), dtype=torch.long), 0)
    if len(x) == 0:
        raise ValueError("suite_adaptive needs at least one image")
    with frozen(model), torch.no_grad():
        classes = model(x[:1]).shape[1]
    losses = ["ce", "margin", *(["dlr"] if classes > 2 else [])]
    losses += [training_loss] if training_loss not in losses else []
    suite = {f"PGD {loss}": partial(loss_pgd, steps=steps, loss=loss) for loss in losses}
    suite["PGD margin, restarts"] = partial(restarted_pgd, steps=steps, restarts=restarts)
    suite["PGD scaled logits"] = partial(scaled_pgd, steps=steps)
    suite["multi-targeted PGD"] = partial(multi_targeted_pgd, steps=steps, restarts=restarts)
    for place in ("clean", "iterate"):
        options = dict(steps=steps, training_loss=training_loss, at=place)
        suite[f"orthogonal PGD, {place}"] = partial(orthogonal_pgd, **options)
    if inner_layers(model, x):
        suite["features, away"] = partial(feature_pgd, steps=steps)
        if guides is not None:
            suite["features, guided"] = partial(feature_pgd, steps=steps, guides=guides)
    if has_relu(model, x):
        suite["smooth surrogate"] = partial(smooth_pgd, steps=steps)
    for name, substitute in (substitutes or {}).items():
        suite[f"transfer, {name}"] = transfer({name: substitute}, steps=steps)
    return suite

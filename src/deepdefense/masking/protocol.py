"""The report: all nine checks of one model, one after the other, with the defaults of each."""

from collections.abc import Mapping, Sequence
from functools import partial

from torch import Tensor, nn
from tqdm import tqdm

from .. import attacks
from ..attacks.guard import check_inputs, seeded
from . import binarisation, rivals, subject, white_box
from .subject import Attack
from .verdict import Check, MaskingReport, make, skipped


def default_white_box(steps: int) -> dict[str, Attack]:
    """PGD with best iterate, shrinking steps and two starts, on cross-entropy and on the margin."""
    return {
        f"PGD {loss}": partial(attacks.restarted_pgd, loss=loss, steps=steps, restarts=2) for loss in ("ce", "margin")
    }


def check_warnings(warnings: Sequence[str] | None) -> Check:
    """Check 9: what AutoAttack itself warned of (zero gradients, a random model, Square better than the rest, …).

    Fails if there is any warning. Not applicable if AutoAttack was not run.
    """
    title = "AutoAttack does not warn"
    if warnings is None:
        return skipped(check_warnings, 9, title, "AutoAttack was not run on this model.")
    texts = [" ".join(str(text).split()) for text in warnings]
    failures = ["AutoAttack warned: " + "; ".join(text.rstrip(".") for text in texts)] if texts else []
    return make(
        check_warnings,
        9,
        title,
        failures,
        "AutoAttack ran without a warning.",
        {"warnings": len(texts)},
        {"texts": texts},
    )


def report(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    white_box_attacks: Mapping[str, Attack] | None = None,
    black_box: Mapping[str, Attack] | None = None,
    adaptive: Mapping[str, Attack] | None = None,
    substitutes: Mapping[str, nn.Module] | None = None,
    warnings: Sequence[str] | None = None,
    training_loss: str = "ce",
    steps: int = 40,
    restarts: int = 2,
    targets: int | None = 9,
    draws: int = 10_000,
    queries: int = 2_000,
    readouts: int = 64,
    batch_size: int = 256,
    seed: int = 0,
    progress: bool = False,
) -> MaskingReport:
    """The masking report of `model`, any nn.Module from images (N, C, H, W) in [0, 1] to logits, at L∞ radius eps.

    Only images that the model gets right are used; a few hundred will do. Every attack is a function
    (model, x, y, *, eps, seed) -> x_adv and is judged by the model's prediction alone.

    white_box_attacks: those whose numbers are claimed; by default PGD with two starts on cross-entropy and margin
    black_box: by default Square and RayS with `queries` each; adaptive: by default the orthogonal, feature and
    smooth-surrogate attacks of `attacks.suite_adaptive`, and transfer from the substitute called "undefended" where
    there is one
    substitutes: {name: network} for check 5; warnings: what AutoAttack warned of, for check 9; training_loss: the
    model's
    steps, restarts, targets: of PGD and multi-targeted PGD; draws: random points an image; readouts: images of check 7

    On a CPU the result depends only on the arguments. Raises ValueError where the arguments cannot be worked with.
    """
    check_inputs(model, x, y, eps)
    white = default_white_box(steps) if white_box_attacks is None else dict(white_box_attacks)
    with seeded(x.device, seed):
        tested = subject.build(
            model,
            x,
            y,
            eps=eps,
            white_box=white,
            loss=training_loss,
            steps=steps,
            batch_size=batch_size,
            seed=seed,
        )
        if black_box is None:
            black_box = {
                "Square": partial(attacks.square, queries=queries),
                "RayS": partial(attacks.rays, queries=queries),
            }
        if adaptive is None:
            adaptive = default_adaptive(model, tested.x, training_loss, substitutes, steps)
        parts = [
            partial(white_box.check_strength, tested),
            partial(white_box.check_invariance, tested),
            partial(rivals.check_black_box, tested, black_box),
            partial(rivals.check_random, tested, draws),
            partial(rivals.check_transfer, tested, substitutes or {}),
            partial(white_box.check_convergence, tested, restarts=restarts, targets=targets),
            partial(binarisation.check_binarisation, tested, white, images=readouts, inner=1000, guesses=200),
            partial(rivals.check_adaptive, tested, adaptive),
            partial(check_warnings, warnings),
        ]
        checks = tuple(part() for part in tqdm(parts, disable=not progress, unit="check"))
    settings = dict(
        white_box=list(white),
        black_box=list(black_box),
        adaptive=list(adaptive),
        substitutes=list(substitutes or {}),
        training_loss=training_loss,
        steps=steps,
        restarts=restarts,
        targets=targets,
        draws=draws,
        queries=queries,
        readouts=readouts,
        batch_size=batch_size,
        seed=seed,
    )
    return MaskingReport(checks, float(eps), len(y), len(tested), settings)


def default_adaptive(
    model: nn.Module, x: Tensor, training_loss: str, substitutes: Mapping[str, nn.Module] | None, steps: int
) -> dict[str, Attack]:
    """The attacks of the adaptive suite that no other check makes already."""
    surrogate = {name: network for name, network in (substitutes or {}).items() if name == "undefended"}
    suite = attacks.suite_adaptive(model, x, training_loss=training_loss, substitutes=surrogate, steps=steps)
    wanted = ("orthogonal", "features", "smooth", "transfer")
    return {name: attack for name, attack in suite.items() if name.startswith(wanted)}

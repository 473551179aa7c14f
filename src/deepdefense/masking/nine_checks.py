"""The report: all nine checks of one model, one after the other, with the defaults of each."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from torch import Tensor, nn
from tqdm import tqdm

from .. import attacks
from ..attacks.contract import Attack, check_inputs
from ..evaluation.attack_words import describe
from ..evaluation.report import Report
from ..inference import seeded
from ..storage import code_files, files, provenance
from ..storage.resumable import Pieces, fingerprint, model_fingerprint
from . import binarisation, from_evaluation, gradient_checks, rival_checks, tested_model
from .check import JSON_NAME, Check, MaskingReport, make, skipped
from .tested_model import Settings

DEFAULT = Settings()


def default_white_box(steps: int) -> dict[str, Attack]:
    """PGD with best iterate, shrinking steps and two starts, on cross-entropy and on the margin."""
    return {f"PGD {loss}": partial(attacks.restarted_pgd, loss=loss, steps=steps, restarts=2) for loss in ("ce", "margin")}


def default_black_box(queries: int) -> dict[str, Attack]:
    """Square, which sees logits, and RayS, which sees predictions."""
    return {"Square": partial(attacks.square, queries=queries), "RayS": partial(attacks.rays, queries=queries)}


def default_adaptive(model: nn.Module, x: Tensor, substitutes: Mapping[str, nn.Module], settings: Settings) -> dict[str, Attack]:
    """The attacks of the adaptive suite that no other check makes already."""
    suite = attacks.suite_adaptive(
        model,
        x,
        training_loss=settings.training_loss,
        substitutes={name: network for name, network in substitutes.items() if name == "undefended"},
        steps=settings.steps,
    )
    return {name: attack for name, attack in suite.items() if name.startswith(from_evaluation.ADAPTIVE)}


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
    evaluated: Report | None = None,
    settings: Settings = DEFAULT,
    folder: str | Path | None = None,
    about: Mapping | None = None,
    progress: bool = False,
) -> MaskingReport:
    """The masking report of `model`, any nn.Module from images (N, C, H, W) in [0, 1] to logits, at L∞ radius eps.

    Only images that the model gets right are used; a few hundred will do. Every attack is a function
    (model, x, y, *, eps, seed) -> x_adv, judged by the model's prediction alone.

    white_box_attacks: those whose numbers are claimed; by default PGD with two starts on cross-entropy and margin
    black_box: by default Square and RayS; adaptive: by default the orthogonal, feature and smooth-surrogate attacks of
    `attacks.suite_adaptive`, and transfer from the substitute called "undefended" where there is one
    substitutes: {name: network} for check 5; warnings: what AutoAttack warned of, for check 9
    evaluated: the report of `deepdefense.evaluate` on the same images; what its attacks broke takes the place of the
    defaults, so that they are not run again, and its warnings are those of check 9
    folder: masking.json goes there, and each finished check at once; the same call after a kill goes on
    about: more entries for masking.json

    On a CPU the result depends only on the arguments. Raises ValueError where the arguments cannot be worked with.
    """
    check_inputs(model, x, y, eps)
    substitutes = dict(substitutes or {})
    known = from_evaluation.Evidence({}, {}, {}, None, None) if evaluated is None else from_evaluation.of_report(evaluated, y, eps)
    if white_box_attacks is None:
        white_box_attacks = known.white_box or default_white_box(settings.steps)
    with seeded(x.device, settings.seed):
        tested = tested_model.build(model, x, y, eps=eps, white_box=dict(white_box_attacks), settings=settings)
        if black_box is None:
            black_box = default_black_box(settings.queries)
            if known.black_box:
                black_box = known.black_box | {"RayS": black_box["RayS"]}
        if adaptive is None:
            adaptive = default_adaptive(model, tested.x, substitutes, settings) | known.adaptive
        solvers = {name: attack for name, attack in white_box_attacks.items() if callable(attack)}
        parts = [
            partial(gradient_checks.check_strength, tested),
            partial(gradient_checks.check_invariance, tested),
            partial(rival_checks.check_black_box, tested, black_box),
            partial(rival_checks.check_random, tested, settings.draws),
            partial(rival_checks.check_transfer, tested, substitutes),
            partial(gradient_checks.check_convergence, tested, known.multi_targeted),
            partial(binarisation.check_binarisation, tested, solvers or default_white_box(settings.steps)),
            partial(rival_checks.check_adaptive, tested, adaptive),
            partial(check_warnings, known.warnings if warnings is None else warnings),
        ]
        named = {"white_box": white_box_attacks, "black_box": black_box, "adaptive": adaptive, "substitutes": substitutes}
        keep, notes = _kept(model, x, y, eps, settings, [named, known.multi_targeted, tested.right], folder)
        checks = tuple(keep(part) for part in tqdm(parts, disable=not progress, unit="check"))
    spent = asdict(settings) | {name: list(members) for name, members in named.items()}
    found = MaskingReport(checks, float(eps), len(y), len(tested), spent)
    if folder is not None:
        files.write_json(Path(folder) / JSON_NAME, {"kind": "masking", **(about or {}), **notes, **found.to_dict()})
    return found


def _words(value) -> object:
    """What an argument is, in JSON: masks and networks by their fingerprints, attacks by name and settings."""
    if isinstance(value, Mapping):
        return {name: _words(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_words(member) for member in value]
    if isinstance(value, Tensor):
        return fingerprint(value)
    if isinstance(value, nn.Module):
        return model_fingerprint(value)
    return value if value is None else describe(value)


def _kept(model, x, y, eps, settings, arguments, folder) -> tuple[Callable[[partial], Check], dict]:
    """A function that makes a check, or reads it from `folder` where the same one was finished before; and the environment
    that the first of them was made in."""
    identity = {"images": fingerprint(x, y), "model": model_fingerprint(model)}
    where = None if folder is None else Path(folder) / "pieces" / "masking"
    pieces = Pieces(where, identity, {"environment": provenance.environment(x.device)})
    code = code_files.fingerprint(code_files.files_of(__name__))
    asked = json.dumps([eps, asdict(settings), _words(arguments), code], sort_keys=True)
    digest = hashlib.sha256(asked.encode()).hexdigest()[:8]

    def keep(part: partial) -> Check:
        if part.func is check_warnings:  # costs nothing
            return part()
        _, record = pieces.get(f"{digest}/{part.func.__name__}", lambda: ({}, part().to_dict()))
        return Check(**record)

    return keep, pieces.notes

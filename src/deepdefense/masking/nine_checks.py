"""The report: all nine checks of one model, one after the other, with the defaults of each."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from torch import Tensor, nn
from tqdm import tqdm

from .. import attacks
from ..arguments import checked_number, checked_whole
from ..attacks.contract import Attack
from ..evaluation.one_attack import logits_in_chunks
from ..evaluation.preparation import check_about, check_substitutes
from ..evaluation.report import Report
from ..inference import private, seeded
from ..storage import code_files, files, provenance
from ..storage.identity import class_fingerprint, function_fingerprint, model_answers, sketch
from ..storage.resumable import Pieces, fingerprint, model_fingerprint
from . import binarisation, from_evaluation, gradient_checks, rival_checks, tested_model
from .check import JSON_NAME, Check, MaskingReport, Rule, make, skipped
from .from_evaluation import Evidence
from .tested_model import Settings, Subject

DEFAULT = Settings()
OWN = ("kind", "environment", "checks", "eps", "images", "attacked", "settings", "failed", "without power")  # entries of masking.json


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
    return {name: attack for name, attack in suite.items() if name.startswith(from_evaluation.OF_CHECK_8)}


def check_warnings(warnings: Sequence[str] | None, images: int | None = None) -> Check:
    """Check 9: what AutoAttack itself warned of (zero gradients, a random model, Square better than the rest, …), on so
    many images that the model gets right.

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
        {"warnings": len(texts)} | ({} if images is None else {"n": images}),
        {"texts": texts},
        [Rule("warnings of AutoAttack", len(texts), 1, 1, 0.0)],
        images,
    )


@dataclass(frozen=True)
class Request:
    """What `report` was asked for; see there."""

    model: nn.Module
    x: Tensor
    y: Tensor
    eps: float
    white_box: Mapping[str, Attack | Tensor] | None
    black_box: Mapping[str, Attack | Tensor] | None
    adaptive: Mapping[str, Attack | Tensor] | None
    substitutes: Mapping[str, nn.Module]
    warnings: Sequence[str] | None
    evaluated: Report | None
    settings: Settings
    folder: str | Path | None
    about: Mapping | None
    progress: bool


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
    folder: masking.json goes there, and each finished check at once; the same call after a kill goes on. A check is read
    only while the model, the images, every attack and all code are the same, and what is read is said on stderr
    about: more entries for masking.json

    On a CPU the result depends only on the arguments. Raises ValueError where the arguments cannot be worked with.
    """
    asked = Request(
        model, x, y, eps, white_box_attacks, black_box, adaptive, dict(substitutes or {}), warnings, evaluated, settings,
        folder, about, progress,
    )  # fmt: skip
    return _report(asked)


def _report(asked: Request) -> MaskingReport:
    classes, deterministic = tested_model.examine(asked.model, asked.x, asked.y, asked.eps, asked.settings)
    settings = replace(asked.settings, seed=checked_whole("seed", asked.settings.seed))
    asked = replace(asked, eps=checked_number("eps", asked.eps), settings=settings, about=check_about(asked.about, OWN))
    if isinstance(asked.warnings, str):
        raise ValueError(f"warnings must be a list of texts, [] if AutoAttack gave none; got {asked.warnings!r}")
    claimed = {"white_box_attacks": asked.white_box, "black_box": asked.black_box, "adaptive": asked.adaptive}
    tested_model.check_attacks(claimed, len(asked.y))
    check_substitutes(asked.substitutes, asked.x, classes)
    known = from_evaluation.NO_EVIDENCE
    if asked.evaluated is not None:
        known = from_evaluation.of_report(asked.evaluated, asked.y, asked.eps)
        from_evaluation.check_subject(asked.evaluated, asked.model, asked.x, asked.y)
    with private(asked.model), seeded(asked.x.device, settings.seed, asked.model):
        white_box_attacks = asked.white_box
        if white_box_attacks is None:
            white_box_attacks = known.white_box or default_white_box(settings.steps)
        tested = tested_model.build(asked.model, asked.x, asked.y, eps=asked.eps, white_box=dict(white_box_attacks), settings=settings)
        named = {"white_box": white_box_attacks, **_rivals(asked, tested, known)}
        keep, pieces = _kept(asked, [named, known.multi_targeted, tested.right], deterministic)
        parts = _parts(asked, tested, named, known)
        checks = tuple(keep(partial(_made, tested, part)) for part in tqdm(parts, disable=not asked.progress, unit="check"))
    pieces.say_taken()
    spent = asdict(settings) | {name: list(members) for name, members in named.items()}
    found = MaskingReport(checks, float(asked.eps), len(asked.y), len(tested), spent)
    if asked.folder is not None:
        files.write_json(Path(asked.folder) / JSON_NAME, {"kind": "masking", **(asked.about or {}), **pieces.notes, **found.to_dict()})
    return found


def _rivals(asked: Request, tested: Subject, known: Evidence) -> dict[str, Mapping]:
    """Black-box and adaptive attacks and substitutes: those asked for, else what is known and the defaults."""
    black_box, adaptive = asked.black_box, asked.adaptive
    if black_box is None:
        black_box = default_black_box(asked.settings.queries)
        if known.black_box:
            black_box = known.black_box | {"RayS": black_box["RayS"]}
    if adaptive is None:
        adaptive = {**default_adaptive(asked.model, tested.x, asked.substitutes, asked.settings), **known.adaptive}
    return {"black_box": black_box, "adaptive": adaptive, "substitutes": asked.substitutes}


def _made(tested: Subject, part: partial) -> Check:
    """The check, which says so if the model gave no answer meanwhile."""
    before = dict(tested.silent)
    check = part()
    silent = {what: count - before[what] for what, count in tested.silent.items() if count > before[what]}
    if not silent:
        return check
    said = " and ".join(f"{count} {'perturbed images' if what == 'images' else 'random points'}" for what, count in silent.items())
    return replace(
        check,
        reason=f"{check.reason} The model's logits are NaN for {said}; they count as mistakes.",
        numbers=check.numbers | {f"{what} without an answer": count for what, count in silent.items()},
    )


def _parts(asked: Request, tested: Subject, named: dict[str, Mapping], known: Evidence) -> list[partial]:
    """The nine checks, each about to be made."""
    solvers = {name: attack for name, attack in named["white_box"].items() if callable(attack)}
    return [
        partial(gradient_checks.check_strength, tested),
        partial(gradient_checks.check_invariance, tested),
        partial(rival_checks.check_black_box, tested, named["black_box"]),
        partial(rival_checks.check_random, tested, asked.settings.draws),
        partial(rival_checks.check_transfer, tested, named["substitutes"]),
        partial(gradient_checks.check_convergence, tested, known.multi_targeted),
        partial(binarisation.check_binarisation, tested, solvers or default_white_box(asked.settings.steps)),
        partial(rival_checks.check_adaptive, tested, named["adaptive"]),
        partial(check_warnings, known.warnings if asked.warnings is None else asked.warnings, len(tested)),
    ]


def _cause(value) -> object:
    """What an argument is, in JSON: masks by their values, attacks and networks by all that they are made of."""
    if isinstance(value, Mapping):
        return {name: _cause(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_cause(member) for member in value]
    if isinstance(value, Tensor):
        return fingerprint(value)
    return value if value is None else function_fingerprint(value)


def _kept(asked: Request, arguments: list, deterministic: bool) -> tuple[Callable[[partial], Check], Pieces]:
    """A function that makes a check (see `_made`), or reads it from the folder where the same one was finished before; and what keeps
    them, with the environment that the first of them was made in."""
    if asked.folder is None:
        return lambda made: made(), Pieces(None, {}, {"environment": provenance.environment(asked.x.device)})
    identity = {"images": fingerprint(asked.x, asked.y), "model": model_fingerprint(asked.model)}
    said = model_answers(asked.model, asked.x, eps=asked.eps, seed=asked.settings.seed)
    if said and deterministic:
        said["clean"] = sketch(logits_in_chunks(asked.model, asked.x, asked.settings.batch_size, seed=0))
    where = Path(asked.folder) / "pieces" / "masking"
    pieces = Pieces(where, identity, {"environment": provenance.environment(asked.x.device)}, said)
    code = [code_files.fingerprint(code_files.files_of(__name__)), class_fingerprint(asked.model)]
    if not said:  # a random model's answers do not tell what it holds beside its weights
        code.append(function_fingerprint(asked.model))
    wanted = json.dumps([asked.eps, asdict(asked.settings), _cause(arguments), code], sort_keys=True)
    digest = hashlib.sha256(wanted.encode()).hexdigest()[:8]

    def keep(made: partial) -> Check:
        function = made.args[1].func
        if function is check_warnings:  # costs nothing
            return made()
        _, record = pieces.get(f"{digest}/{function.__name__}", lambda: ({}, made().to_dict()))
        return Check(**record)

    return keep, pieces

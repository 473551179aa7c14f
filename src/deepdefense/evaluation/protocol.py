"""From a model and images to a report: every attack of every suite on every image that the model gets right.

The robust accuracy is the per-image worst case over all suites. An attack is always given the same images together, `chunk`
of them, with a seed of their own; how many pass through the model at a time (`batch_size`) bounds the memory and draws nothing.
No attack is taken at its word: success is the model's answer to the image it returned, and that image's distance.
"""

import hashlib
import inspect
import re
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from .. import attacks
from ..attacks import autoattack
from ..attacks.contract import BALL_NORMS, TOLERANCE, Attack, AttackError, check_output, describe, distances, takes_eps
from ..attacks.suites import STANDARD, SUITES, suite
from ..cost import count_passes
from ..inference import frozen, seeded
from ..losses import margin
from ..storage import code_files, paths, provenance
from ..storage.resumable import Pieces, fingerprint, model_fingerprint
from . import preconditions, standard_suite
from .report import Outcome, Report
from .sliced_model import in_slices

CHUNK = 100  # images that an attack is given together; part of what a number means, like the seed


def choose(suites: Sequence | Mapping | None, model: nn.Module, x: Tensor, norm: str) -> dict[str, dict[str, Attack]]:
    """{suite: {name: attack}} from names of suites and dictionaries {suite: {name: attack}}; None: all for this norm."""
    if suites is None:
        found = {name: suite(name, model, x, norm) for name in SUITES}
        return {name: members for name, members in found.items() if members}
    chosen: dict[str, dict[str, Attack]] = {}
    for item in [suites] if isinstance(suites, str | Mapping) else suites:
        own = isinstance(item, Mapping)
        for name, members in (item if own else {item: suite(item, model, x, norm)}).items():
            if own and name == STANDARD:
                raise ValueError(f"{STANDARD!r} is AutoAttack as its authors run it; give a suite of your own another name")
            if name in chosen:
                raise ValueError(f"suite {name!r} is given twice")
            if not members:
                raise ValueError(f"suite {name!r} has no attacks for norm {norm!r}")
            chosen[name] = dict(members)
    for name, members in chosen.items():
        for key, attack in members.items():
            if "/" in name + key:
                raise ValueError(f"the names of suites and attacks must hold no '/', got {name!r} and {key!r}")
            if not callable(attack) or "seed" not in inspect.signature(attack).parameters:
                raise ValueError(f"{name}/{key} must be a function (model, x, y, *, eps, seed) -> x_adv, or without eps")
    return chosen


def _logits(model: nn.Module, x: Tensor, chunk: int, seed: int) -> Tensor:
    with frozen(model), seeded(x.device, seed), torch.no_grad():
        return torch.cat([model(part) for part in x.split(chunk)])


def _attack_chunk(model, attack: Attack, name: str, x: Tensor, y: Tensor, eps: float, norm: str, seed: int):
    """One attack on one chunk, as a piece: the model's answers to the images that came back, and their distances."""
    bounded = takes_eps(attack)
    start = time.perf_counter()
    with frozen(model), seeded(x.device, seed), torch.enable_grad(), count_passes(model) as passes:
        x_adv = attack(model, x.clone(), y.clone(), seed=seed, **({"eps": eps} if bounded else {}))
    seconds = time.perf_counter() - start
    if x_adv.shape != x.shape:
        raise AttackError(f"{name} returned images of shape {tuple(x_adv.shape)} for {tuple(x.shape)}")
    x_adv = check_output(x, x_adv.detach(), eps if bounded else torch.inf, name, norm)
    logits = _logits(model, x_adv, len(x), seed)
    prediction, undefined = logits.argmax(1), logits.isnan().any(1)
    wrong = (prediction != y) | undefined  # no answer is no right answer
    far = {n: distances(x, x_adv, n).masked_fill(~wrong, torch.inf) for n in BALL_NORMS}
    tensors = {
        "success": wrong & (far[norm] <= eps + TOLERANCE),
        "prediction": prediction,
        **far,
        "loss": margin(logits, y).masked_fill(undefined, torch.inf),
    }
    cost = {"images": len(y), "seconds": seconds, "forward": passes.forward, "backward": passes.backward}
    return tensors, {"cost": cost, "undefined": int(undefined.sum())}


def _code(attack: Attack) -> str:
    """What changes when the code of `attack` does, or that of what judges it: pieces of other code are not taken up."""
    judging = {Path(__file__), *code_files.files_of("deepdefense.models", "deepdefense.losses", "deepdefense.attacks.contract")}
    return code_files.fingerprint(judging.union(code_files.files_of_function(attack)))


def run_attack(
    model: nn.Module,
    attack: Attack,
    x: Tensor,
    y: Tensor,
    attacked: Tensor,
    *,
    eps: float,
    norm: str = "linf",
    name: str = "attack",
    seed: int = 0,
    chunk: int = CHUNK,
    pieces: Pieces | None = None,
    bar: tqdm | None = None,
) -> tuple[Outcome, int]:
    """`attack` on the images where `attacked` (N,) is True; and for how many the model's answer was NaN."""
    pieces = pieces or Pieces(None, {})
    settings = describe(attack)
    digest = hashlib.sha256(f"{settings} {_code(attack)}".encode()).hexdigest()[:8]
    where = f"{re.sub(r'[^A-Za-z0-9./-]+', '-', name)}-{digest}"
    empty = {"success": False, "prediction": -1, "linf": torch.nan, "l2": torch.nan, "loss": torch.nan}
    kinds = {"success": torch.bool, "prediction": torch.int64}
    arrays = {key: torch.full((len(y),), value, dtype=kinds.get(key, torch.float64)) for key, value in empty.items()}
    cost, undefined = {"images": 0, "seconds": 0.0, "forward": 0, "backward": 0}, 0
    for number, part in enumerate(attacked.nonzero().flatten().split(chunk)):
        if len(part) == 0:
            break
        job = partial(_attack_chunk, model, attack, name, x[part], y[part], eps, norm, seed * 10_007 + number)
        try:
            tensors, facts = pieces.get(f"{where}/{number:05d}", job)
        except Exception as error:
            error.add_note(f"while running {name} on images {int(part[0])} to {int(part[-1])}")
            raise
        for key, array in arrays.items():
            array[part.cpu()] = tensors[key].to(array.dtype)
        cost = {key: cost[key] + facts["cost"][key] for key in cost}
        undefined += facts["undefined"]
        if bar is not None:
            bar.update(len(part))
    numbers = {key: array.numpy() for key, array in arrays.items()}
    return Outcome(attacked.cpu().numpy(), **numbers, cost=cost, settings=settings, bounded=takes_eps(attack)), undefined


def _standard(model, members, x, y, clean_loss, *, eps, norm, seed, chunk, folder, progress):
    """AutoAttack as outcomes, one a part that ran or had nothing left to do, and its warnings."""
    ran = standard_suite.standard(model, x, y, eps=eps, norm=norm, seed=seed, batch_size=chunk, folder=folder, progress=progress)
    loss = margin(_logits(model, ran.x_adv, chunk, seed), y)
    far = {n: distances(x, ran.x_adv, n) for n in BALL_NORMS}
    outcomes = {}
    for number, part in enumerate(autoattack.PARTS):
        broke = ran.broken_by == number
        arrays = {
            "attacked": ran.attacked(part),
            "success": broke,
            "prediction": torch.where(broke, ran.prediction, y),
            "loss": torch.where(broke, loss, clean_loss),
            **{n: far[n].masked_fill(~broke, torch.inf) for n in BALL_NORMS},
        }
        outcomes[part] = Outcome(
            **{key: array.cpu().numpy() for key, array in arrays.items()},
            cost=ran.cost.get(part, {"images": 0, "seconds": 0.0, "forward": 0, "backward": 0}),
            settings=describe(members[part]),
            cumulative=True,
        )
    return outcomes, ran.warnings


def _check_settings(eps, norm, seed, chunk, batch_size) -> None:
    if norm not in BALL_NORMS:
        raise ValueError(f"norm must be one of {', '.join(BALL_NORMS)}; got {norm!r}")
    if not (eps > 0 and (norm == "l2" or eps <= 1)):
        raise ValueError(f"eps must be above 0, in units of the image range (8/255), and for linf at most 1; got {eps}")
    for name, value in (("chunk", chunk), ("batch_size", batch_size)):
        if type(value) is not int or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1; got {value!r}")
    if type(seed) is not int or not 0 <= seed < 2**31:
        raise ValueError(f"seed must be a whole number from 0 to 2^31 - 1; got {seed!r}")


def evaluate(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    norm: str = "linf",
    suites: Sequence | Mapping | None = None,
    folder: str | Path | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    chunk: int = CHUNK,
    allow_random: bool = False,
    about: Mapping | None = None,
    progress: bool = True,
) -> Report:
    """The report of `model`, any nn.Module from images in [0, 1] to logits, on x (N, C, H, W) with labels y (N,).

    eps: radius in the units of the images (8/255); norm: "linf" or "l2"
    suites: names ("paper", "standard", "adaptive", ...) and dictionaries {name: {attack name: attack}}; None: all for this norm
    folder: results go there, each finished chunk at once; the same call after a kill goes on and ends with the same files.
    Chunks that were made by other code of ours (see `deepdefense.storage.code_files`) are made anew
    seed, chunk: with them every number is fixed, whatever the batch size. chunk: images that an attack is given together
    batch_size: most images that pass through the model at a time, the chunk by default; less costs another forward pass a
    gradient, and then the model's own rounding is different, which an attack of many steps can amplify
    allow_random: let a non-deterministic model in; the report says so
    about: more entries for the summary, such as RobustBench's name, dataset, architecture, reported
    """
    folder = paths.given(folder)
    batch_size = chunk if batch_size is None else batch_size
    _check_settings(eps, norm, seed, chunk, batch_size)
    preconditions.check_images(x, y)
    sliced = batch_size < min(chunk, len(x))
    examined = preconditions.examine(model, x[:batch_size], y[:batch_size], allow_random=allow_random, sliced=sliced)
    deterministic = examined.deterministic
    chosen = choose(suites, model, x[:1], norm)
    seen = in_slices(model, batch_size, chunk)
    y = y.long()
    logits = _logits(seen, x, chunk, seed)
    preconditions.check_logits(logits, y)
    prediction = logits.argmax(1)
    right = prediction == y
    identity = {"eps": eps, "norm": norm, "seed": seed, "chunk": chunk}
    identity |= {"images": fingerprint(x, y), "model": model_fingerprint(model)}
    if deterministic:
        identity["predictions"] = fingerprint(prediction)
    pieces = Pieces(None if folder is None else folder / "pieces", identity, {"environment": provenance.environment(x.device)})
    outcomes: dict[str, Outcome] = {}
    warnings: list[dict] = []
    for name, members in chosen.items():
        if name == STANDARD:
            parts, said = _standard(
                seen, members, x, y, margin(logits, y), eps=eps, norm=norm, seed=seed, chunk=chunk, progress=progress,
                folder=None if pieces.folder is None else standard_suite.kept_in(pieces.folder),
            )  # fmt: skip
            outcomes |= {f"{name}/{part}": outcome for part, outcome in parts.items()}
            warnings += said
            continue
        with tqdm(total=len(members) * int(right.sum()), disable=not progress, mininterval=5, unit="image") as bar:
            for key, attack in members.items():
                bar.set_description(f"{name}/{key}", refresh=False)
                outcomes[f"{name}/{key}"], undefined = run_attack(
                    seen, attack, x, y, right, eps=eps, norm=norm, name=f"{name}/{key}",
                    seed=seed, chunk=chunk, pieces=pieces, bar=bar,
                )  # fmt: skip
                if undefined:
                    message = f"the model's logits are NaN for {undefined} perturbed images; they count as wrong answers"
                    warnings.append({"part": f"{name}/{key}", "kind": "NaN logits", "message": message, "times": undefined})
    about = {
        **(about or {}), **identity, "suites_run": list(chosen), "deterministic": deterministic,
        "sliced_to": batch_size if batch_size < chunk else None,
        "warnings": [*_own_warnings(deterministic), *examined.warnings, *warnings], **pieces.notes,
    }  # fmt: skip
    report = Report(y.cpu().numpy(), prediction.cpu().numpy(), outcomes, about)
    if folder is not None:
        report.write(folder)
    return report


def _own_warnings(deterministic: bool) -> list[dict]:
    if deterministic:
        return []
    message = "two passes of this model over the same images differ: every number is one draw, and AutoAttack's standard "
    message += "version is not made for such a model"
    return [{"part": "model", "kind": "random model", "message": message, "times": 1}]


def robust_accuracy(model: nn.Module, x: Tensor, y: Tensor, attack: Attack, *, eps: float, chunk: int = CHUNK, seed: int = 0) -> float:
    """Share of images that `model` gets right before and after `attack` within eps (L∞), in [0, 1].

    attack: a function (model, x, y, *, eps, seed) -> x_adv, such as `attacks.pgd` or `partial(attacks.apgd, steps=50)`.
    """
    preconditions.check_images(x, y)
    right = _logits(model, x, chunk, seed).argmax(1) == y
    outcome, _ = run_attack(model, attack, x, y, right, eps=eps, seed=seed, chunk=chunk)
    return float((right.cpu().numpy() & ~outcome.success).mean())


def accuracy_by_eps(model: nn.Module, x: Tensor, y: Tensor, radii: Sequence[float], *, steps: int = 20, seed: int = 0) -> list[float]:
    """Robust accuracy under margin PGD at each eps of `radii`, in [0, 1]: a sound attack makes it fall to 0."""
    attack = partial(attacks.loss_pgd, steps=steps, loss="margin")
    return [robust_accuracy(model, x, y, attack, eps=eps, seed=seed) for eps in radii]

"""From a model and images to a report: every attack of every suite on every image that the model gets right.

The robust accuracy is the per-image worst case over all suites. An attack is always given the same images together, `chunk`
of them, with a seed of their own; how many pass through the model at a time (`batch_size`) bounds the memory and draws nothing.
No attack is taken at its word: success is the model's answer to the image it returned, and that image's distance.
"""

import hashlib
import inspect
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from .. import attacks, inference
from ..arguments import check_labels, check_logits_type, checked_number, checked_whole
from ..attacks import autoattack
from ..attacks.contract import Attack, AttackError, check_output, distances, rounding, takes_eps
from ..attacks.neighbours import on_rows, reads_layers, treats_alone
from ..attacks.suites import ADAPTIVE, STANDARD, SUITES, suite
from ..cost import count_passes
from ..inference import frozen, seeded
from ..losses import get_loss, margin
from ..storage import code_files, provenance
from ..storage.identity import class_fingerprint, function_fingerprint, model_answers, sketch
from ..storage.resumable import Pieces, all_taken, fingerprint, model_fingerprint
from . import preconditions, standard_suite
from .attack_words import describe
from .cascade import in_order_of_cost, passes
from .preparation import MODES, check_about, check_knowledge, possible, writable
from .report import Outcome, Report, unanswered
from .sliced_model import Sliced, in_slices
from .threat import BALL_NORMS, Threat

CHUNK = Threat.chunk  # images that an attack is given together; part of what a number means, like the seed
NO_COST = {"images": 0, "seconds": 0.0, "forward": 0, "backward": 0}


def choose(suites: Sequence | Mapping | None, model: nn.Module, x: Tensor, norm: str, **known) -> dict[str, dict[str, Attack]]:
    """{suite: {name: attack}} from names of suites and dictionaries {suite: {name: attack}}; None: all for this norm.

    known: what the adaptive suite is told (see `suites.suite`)
    """
    if suites is None:
        found = {name: suite(name, model, x, norm, **known) for name in SUITES}
        return {name: members for name, members in found.items() if members}
    if not isinstance(suites, str | Mapping | Sequence):
        raise ValueError(f"suites must be names of suites and dictionaries {{suite: {{name: attack}}}}, got {suites!r}")
    chosen: dict[str, dict[str, Attack]] = {}
    for item in [suites] if isinstance(suites, str | Mapping) else suites:
        if not isinstance(item, str | Mapping):
            raise ValueError(f"suites must be names of suites and dictionaries {{suite: {{name: attack}}}}, got {item!r} among them")
        own = isinstance(item, Mapping)
        for name, members in (item if own else {item: suite(item, model, x, norm, **known)}).items():
            if own and name == STANDARD:
                raise ValueError(f"{STANDARD!r} is AutoAttack as its authors run it; give a suite of your own another name")
            if name in chosen:
                raise ValueError(f"suite {name!r} is given twice")
            if not members:
                raise ValueError(f"suite {name!r} has no attacks for norm {norm!r}")
            chosen[name] = dict(members)
    if not chosen:
        raise ValueError(f"suites names no attack, got {suites!r}; give some of {', '.join(SUITES)}, suites of your own, or None for all")
    for name, members in chosen.items():
        for key, attack in members.items():
            if "/" in name + key:
                raise ValueError(f"the names of suites and attacks must hold no '/', got {name!r} and {key!r}")
            if not callable(attack) or "seed" not in inspect.signature(attack).parameters:
                raise ValueError(f"{name}/{key} must be a function (model, x, y, *, eps, seed) -> x_adv, or without eps")
    return chosen


def _logits(model: nn.Module, x: Tensor, chunk: int, seed: int) -> Tensor:
    found = []
    with frozen(model), seeded(x.device, seed), torch.no_grad():
        for part in x.split(chunk):
            found.append(model(part))
            check_logits_type(found[-1], len(part))
    return torch.cat(found)


def _attack_chunk(model: nn.Module, attack: Attack, name: str, x: Tensor, y: Tensor, rows: Tensor, threat: Threat, number: int):
    """One attack on images `rows` of chunk `number`, as a piece: the model's answers to what came back, and the distances."""
    eps, norm, seed = threat.eps, threat.norm, threat.seed_of(number)
    bounded = takes_eps(attack)
    options = {"seed": seed, **({"eps": eps} if bounded else {})}
    seen, parts = model, [rows]
    if isinstance(model, Sliced) and reads_layers(attack):  # layers are not to be read in slices, but such an attack can be cut
        seen, parts = model.model, rows.split(model.size)
    found, start = [], time.perf_counter()
    with frozen(seen), torch.enable_grad(), count_passes(seen) as counted:
        for part in parts:
            with seeded(x.device, seed):
                x_adv = on_rows(attack, seen, x, y.clone(), part, **options)
            if x_adv.shape != x[part].shape:
                raise AttackError(f"{name} returned images of shape {tuple(x_adv.shape)} for {tuple(x[part].shape)}")
            found.append(x_adv.detach())
    seconds = time.perf_counter() - start
    x, y = x[rows], y[rows]
    x_adv = check_output(x, torch.cat(found), eps if bounded else torch.inf, name, norm)
    logits = _logits(model, x_adv, len(x), seed)
    prediction = inference.answers(logits)
    wrong, undefined = prediction != y, prediction < 0  # no answer is no right answer
    far = {n: distances(x, x_adv, n).masked_fill(~wrong, torch.inf) for n in BALL_NORMS}
    tensors = {
        "success": wrong if bounded else wrong & (far[norm] <= eps + rounding(x, eps, norm)),  # a bounded one is proven to be in the ball
        "prediction": prediction,
        **far,
        "loss": margin(logits, y).masked_fill(undefined, torch.inf),
    }
    cost = {"images": len(y), "seconds": seconds, "forward": counted.forward, "backward": counted.backward}
    return tensors, {"cost": cost, "undefined": int(undefined.sum())}


def _code(attack: Attack) -> str:
    """What changes when the code of `attack` does, or that of what judges it: pieces of other code are not taken up."""
    judging = {Path(__file__), *code_files.files_of("deepdefense.models", "deepdefense.losses", "deepdefense.attacks.contract")}
    return code_files.fingerprint(judging.union(code_files.files_of_function(attack)))


def _place(name: str, attack: Attack, settings: str) -> str:
    """Where the pieces of `attack` are kept: no other name, setting, code or thing that it holds has the same place."""
    cause = f"{name}\n{settings} {_code(attack)} {function_fingerprint(attack)}"
    return f"{re.sub(r'[^A-Za-z0-9./-]+', '-', name)[:80]}-{hashlib.sha256(cause.encode()).hexdigest()[:8]}"


def run_attack(
    model: nn.Module,
    attack: Attack,
    x: Tensor,
    y: Tensor,
    attacked: Tensor,
    threat: Threat,
    *,
    standing: Tensor | None = None,
    name: str = "attack",
    pieces: Pieces | None = None,
    bar: tqdm | None = None,
) -> tuple[Outcome, int]:
    """`attack` on the images where `attacked` (N,) is True; and for how many the model's answer was NaN.

    standing: (N,) bool, those whose outcome is wanted, all by default. What the attack does to them does not depend on it:
    an attack that heeds an image's neighbours is given its whole chunk, if one of it stands
    """
    pieces = pieces or Pieces(None, {})
    standing = attacked if standing is None else attacked & standing
    settings, alone = describe(attack), treats_alone(attack, threat.norm)
    where = _place(name, attack, settings)
    empty = {"success": False, "prediction": -1, "linf": torch.nan, "l2": torch.nan, "loss": torch.nan}
    kinds = {"success": torch.bool, "prediction": torch.int64}
    arrays = {key: torch.full((len(y),), value, dtype=kinds.get(key, torch.float64)) for key, value in empty.items()}
    cost, undefined = dict(NO_COST), 0
    for number, part in enumerate(attacked.nonzero().flatten().split(threat.chunk)):
        left = standing[part]
        if left.any():
            rows = left.nonzero().flatten() if alone else torch.arange(len(part), device=part.device)
            images = fingerprint(part) if len(rows) == len(part) else fingerprint(part, rows)
            job = partial(_attack_chunk, model, attack, name, x[part], y[part], rows, threat, number)
            try:
                tensors, facts = pieces.get(f"{where}/{number:05d}-{images[:8]}", job)  # never laid on other images
            except Exception as error:
                error.add_note(f"while running {name} on images {int(part[0])} to {int(part[-1])}")
                raise
            wanted, reached = left[rows].cpu(), part[left].cpu()
            for key, array in arrays.items():
                array[reached] = tensors[key][wanted].to(array.dtype)
            cost = {key: cost[key] + facts["cost"][key] for key in cost}
            undefined += facts["undefined"]
        if bar is not None:
            bar.update(len(part))
    numbers = {key: array.numpy() for key, array in arrays.items()}
    return Outcome(standing.cpu().numpy(), **numbers, cost=cost, settings=settings, bounded=takes_eps(attack)), undefined


@dataclass(frozen=True)
class _Evaluation:
    """One call of `evaluate`, all its arguments checked: model as the attacks see it, x (N, C, H, W), y (N,), which images
    are right, and their margin losses, (N,)."""

    model: nn.Module
    x: Tensor
    y: Tensor
    right: Tensor
    clean_loss: Tensor
    threat: Threat
    pieces: Pieces
    progress: bool

    def one(self, name: str, attack: Attack, bar: tqdm, standing: Tensor | None = None) -> tuple[Outcome, list[dict]]:
        """The outcome of one attack, and its warnings."""
        bar.set_description(name, refresh=False)
        outcome, undefined = run_attack(
            self.model, attack, self.x, self.y, self.right, self.threat, standing=standing, name=name,
            pieces=self.pieces, bar=bar,
        )  # fmt: skip
        return outcome, [unanswered(name, undefined)] if undefined else []

    def autoattack(self, members: Mapping, standing: Tensor | None = None) -> tuple[dict[str, Outcome], list[dict], dict | None]:
        """AutoAttack as outcomes, one a part that ran or had nothing left to do; its warnings; what was read back of it."""
        model, x, y, threat = self.model, self.x, self.y, self.threat
        folder = None if self.pieces.folder is None else standard_suite.kept_in(self.pieces.folder)
        ran = standard_suite.standard(
            model, x, y, eps=threat.eps, norm=threat.norm, seed=threat.seed, batch_size=threat.chunk,
            parts=tuple(members), wanted=standing, folder=folder, progress=self.progress,
        )  # fmt: skip
        wanted = torch.ones_like(self.right) if standing is None else standing
        loss = margin(_logits(model, ran.x_adv, threat.chunk, threat.seed), y).masked_fill(ran.prediction < 0, torch.inf)
        far = {n: distances(x, ran.x_adv, n) for n in BALL_NORMS}
        outcomes = {}
        for part in members:
            broke = ran.broken_by == autoattack.PARTS.index(part)
            arrays = {
                "attacked": ran.attacked(part) & wanted,
                "success": broke & wanted,
                "prediction": torch.where(broke, ran.prediction, y),
                "loss": torch.where(broke, loss, self.clean_loss),
                **{n: far[n].masked_fill(~broke, torch.inf) for n in BALL_NORMS},
            }
            outcomes[f"{STANDARD}/{part}"] = Outcome(
                **{key: array.cpu().numpy() for key, array in arrays.items()},
                cost=ran.cost.get(part, dict(NO_COST)),
                settings=describe(members[part]),
                cumulative=True,
            )
        return outcomes, ran.warnings, ran.taken

    def full(self, chosen: Mapping[str, Mapping[str, Attack]]) -> tuple[dict[str, Outcome], list[dict], list[dict | None]]:
        """Every attack on every image that is right: outcomes, warnings, what was read back."""
        outcomes, warnings, taken = {}, [], []
        for name, members in chosen.items():
            if name == STANDARD:
                parts, said, read = self.autoattack(members)
                outcomes, warnings, taken = outcomes | parts, warnings + said, [*taken, read]
                continue
            with self._bar(len(members)) as bar:
                for key, attack in members.items():
                    outcomes[f"{name}/{key}"], said = self.one(f"{name}/{key}", attack, bar)
                    warnings += said
        return outcomes, warnings, taken

    def cascade(self, chosen: Mapping[str, Mapping[str, Attack]], classes: int) -> tuple[dict[str, Outcome], list[dict], list[dict | None]]:
        """The same, cheapest attack first, each on what the ones before have left."""
        outcomes, warnings, taken = {}, [], []
        standing, order = self.right.clone(), in_order_of_cost(chosen, STANDARD, classes)
        with self._bar(sum(name is not None for _, name in order)) as bar:
            for suite_name, name in order:
                if name is None:
                    found, said, read = self.autoattack(chosen[suite_name], standing)
                    taken.append(read)
                else:
                    key = f"{suite_name}/{name}"
                    outcome, said = self.one(key, chosen[suite_name][name], bar, standing)
                    found = {key: replace(outcome, cumulative=True)}
                outcomes, warnings = outcomes | found, warnings + said
                for outcome in found.values():
                    standing &= ~torch.from_numpy(outcome.attacked & outcome.success).to(standing.device)
        return outcomes, warnings, taken

    def _bar(self, attacks: int) -> tqdm:
        return tqdm(total=attacks * int(self.right.sum()), disable=not self.progress, mininterval=5, unit="image")


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
    mode: str = "full",
    training_loss: str = "mse",
    substitutes: Mapping[str, nn.Module] | None = None,
    guides: tuple[Tensor, Tensor] | None = None,
) -> Report:
    """The report of `model`, any nn.Module from images in [0, 1] to logits, on x (N, C, H, W) with labels y (N,).

    eps: radius in the units of the images (8/255); norm: "linf" or "l2"
    suites: names ("paper", "standard", "adaptive", ...) and dictionaries {name: {attack name: attack}}; None: all for this norm
    folder: results go there, each finished chunk at once; the same call after a kill goes on and ends with the same files.
    Chunks that were made by another attack, or by other code of ours (see `deepdefense.storage.code_files`), are made anew; a folder of
    another model is refused, also if only its code is another. What is read back is said, and is in the summary
    seed, chunk: with them every number is fixed, whatever the batch size. chunk: images that an attack is given together
    batch_size: most images that pass through the model at a time, the chunk by default; less costs another forward pass a
    gradient, and then the model's own rounding is different, which an attack of many steps can amplify
    allow_random: let a non-deterministic model in; the report says so
    about: more entries for the summary, such as RobustBench's name, dataset, architecture, reported
    mode: "full" gives every attack every image that is right. "worst_case" gives each, cheapest first, what the ones before
    have left: the same worst case, image by image, for a fraction of the passes, but for the model's own rounding in smaller
    batches; no number of an attack or suite alone
    training_loss: the loss that the model was trained with, a name of `deepdefense.losses`, for the attacks that know it
    substitutes: {name: network} to transfer from; guides: (images (G, C, H, W), labels (G,)) whose features are aimed at.
    Both are for the adaptive suite

    Attacks that need more classes than the model has are left out, which is said and is in the summary ("left_out").
    """
    seed, chunk = checked_whole("seed", seed), checked_whole("chunk", chunk)
    threat = Threat(checked_number("eps", eps), norm, seed, chunk).check()
    batch_size = chunk if batch_size is None else checked_whole("batch_size", batch_size, least=1)
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}; got {mode!r}")
    get_loss(training_loss)
    about = check_about(about)
    x, y = preconditions.check_images(x, y), y.detach().as_subclass(Tensor).long()
    check_knowledge(model, x, substitutes, guides)
    sliced = batch_size < min(chunk, len(x))
    examined = preconditions.examine(model, x[:batch_size], y[:batch_size], allow_random=allow_random, sliced=sliced)
    deterministic = examined.deterministic
    known = {"training_loss": training_loss, "substitutes": substitutes, "guides": guides}
    chosen = choose(suites, model, x[:1], norm, **known)
    if (substitutes or guides is not None) and not chosen.get(ADAPTIVE):
        raise ValueError(f"substitutes and guides are for the suite {ADAPTIVE!r}, which is not among {', '.join(chosen)}")
    seen = in_slices(model, batch_size, chunk)
    logits = _logits(seen, x, chunk, seed)
    preconditions.check_logits(logits, y)
    classes = logits.shape[1]
    chosen, left_out = possible(chosen, classes)
    if STANDARD in chosen:
        autoattack.check(model, x[:1], y[:1], threat.eps, norm)
    folder = writable(folder)
    for entry in left_out:
        tqdm.write(f"{entry['attack']} is left out: {entry['reason']}", file=sys.stderr)
    if progress:
        most = sum(passes(attack, classes) for members in chosen.values() for attack in members.values())
        count = sum(map(len, chosen.values()))
        tqdm.write(f"{count} attacks on {len(y)} images, at most about {most:,} forward passes an image", file=sys.stderr)
    prediction = inference.answers(logits)
    right = prediction == y
    identity = asdict(threat) | {"images": fingerprint(x, y), "model": model_fingerprint(model)}
    identity |= {} if mode == "full" else {"mode": mode}
    told = None if folder is None else _answers(model, x, logits, threat, deterministic)
    identity |= {} if told is None or told else {"classes": class_fingerprint(model)}  # of answers that no seed repeats
    pieces = Pieces(None if folder is None else folder / "pieces", identity, {"environment": provenance.environment(x.device)}, told)
    evaluation = _Evaluation(seen, x, y, right, margin(logits, y), threat, pieces, progress)
    if mode == "full":
        outcomes, warnings, taken = evaluation.full(chosen)
    else:
        outcomes, warnings, taken = evaluation.cascade(chosen, classes)
    about = {
        **about, **identity, "suites_run": list(chosen), "deterministic": deterministic, "training_loss": training_loss,
        "left_out": left_out, "sliced_to": batch_size if batch_size < chunk else None,
        "warnings": [*_own_warnings(deterministic), *examined.warnings, *warnings], **pieces.notes,
    }  # fmt: skip
    report = Report(y.cpu().numpy(), prediction.cpu().numpy(), outcomes, about, all_taken([pieces.say_taken(), *taken]))
    if folder is not None:
        report.write(folder)
    return report


def _answers(model: nn.Module, x: Tensor, logits: Tensor, threat: Threat, deterministic: bool) -> dict[str, Tensor]:
    """What tells the model from an edited one: its answers alone and, where they repeat themselves, to all clean images."""
    found = model_answers(model, x, eps=threat.eps, norm=threat.norm, seed=threat.seed)
    return found | ({"clean": sketch(logits)} if deterministic else {})


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
    eps, seed, chunk = checked_number("eps", eps, least=0, most=1), checked_whole("seed", seed), checked_whole("chunk", chunk, least=1)
    threat = Threat(eps, seed=seed, chunk=chunk)
    x = preconditions.check_images(x, y)
    logits = _logits(model, x, chunk, seed)
    y = check_labels(y, len(x), logits.shape[1], values=True)
    outcome, _ = run_attack(model, attack, x, y, ~inference.wrong(logits, y), threat)
    right = outcome.attacked
    return float((right & ~outcome.success).mean())


def accuracy_by_eps(model: nn.Module, x: Tensor, y: Tensor, radii: Sequence[float], *, steps: int = 20, seed: int = 0) -> list[float]:
    """Robust accuracy under margin PGD at each eps of `radii`, in [0, 1]: a sound attack makes it fall to 0."""
    attack = partial(attacks.loss_pgd, steps=steps, loss="margin")
    return [robust_accuracy(model, x, y, attack, eps=eps, seed=seed) for eps in radii]

"""From a model and images to a report: every attack of every suite on every image that the model gets right.

The robust accuracy is the per-image worst case over all suites. An attack is always given the same images together, `chunk`
of them, with a seed of their own; how many pass through the model at a time (`batch_size`) bounds the memory and draws nothing.
No attack is taken at its word: success is the model's answer to the image it returned, and that image's distance.
"""

import inspect
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from .. import attacks, inference
from ..arguments import check_choice, check_labels, checked_number, checked_whole
from ..attacks import autoattack
from ..attacks.contract import Attack, distances
from ..attacks.suites import ADAPTIVE, STANDARD, SUITES, suite
from ..losses import get_loss, margin
from ..storage import provenance
from ..storage.identity import class_fingerprint, model_answers, sketch
from ..storage.resumable import Pieces, all_taken, fingerprint, model_fingerprint
from . import preconditions, standard_suite
from .attack_words import describe
from .cascade import in_order_of_cost, passes
from .one_attack import NO_COST, logits_in_chunks, run_attack
from .preparation import MODES, check_about, check_knowledge, check_substitutes, possible, writable
from .report import Outcome, Report, unanswered
from .sliced_model import in_slices
from .threat import BALL_NORMS, Threat

CHUNK = Threat.chunk  # images that an attack is given together; part of what a number means, like the seed


def chosen_suites(suites: Sequence | Mapping | None, model: nn.Module, x: Tensor, norm: str, **known) -> dict[str, dict[str, Attack]]:
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
        given = item if isinstance(item, Mapping) else {item: suite(item, model, x, norm, **known)}
        for name, members in given.items():
            if not isinstance(name, str) or not isinstance(members, Mapping):
                raise ValueError(f"suites of your own must be {{suite: {{attack name: attack}}}}, got {{{name!r}: {members!r}}}")
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
            if not isinstance(key, str):
                raise ValueError(f"an attack's name must be text, got {key!r} in the suite {name!r}")
            if "/" in name + key:
                raise ValueError(f"the names of suites and attacks must hold no '/', got {name!r} and {key!r}")
            if not callable(attack) or "seed" not in inspect.signature(attack).parameters:
                raise ValueError(f"{name}/{key} must be a function (model, x, y, *, eps, seed) -> x_adv, or without eps")
    return chosen


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
        loss = margin(logits_in_chunks(model, ran.x_adv, threat.chunk, threat.seed), y).masked_fill(ran.prediction < 0, torch.inf)
        far = {n: distances(x, ran.x_adv, n) for n in BALL_NORMS}
        outcomes = {}
        for part in members:
            broke = ran.broken_by == autoattack.PARTS.index(part)
            arrays = {
                "success": broke & wanted,
                "prediction": torch.where(broke, ran.prediction, y),
                "loss": torch.where(broke, loss, self.clean_loss),
                **{n: far[n].masked_fill(~broke, torch.inf) for n in BALL_NORMS},
            }
            outcomes[f"{STANDARD}/{part}"] = Outcome.of(
                (ran.attacked(part) & wanted).cpu().numpy(),
                {key: array.cpu().numpy() for key, array in arrays.items()},
                cost=ran.cost.get(part, dict(NO_COST)),
                settings=describe(members[part]),
                cumulative=True,
            )
        return outcomes, ran.warnings, ran.taken

    def full(self, chosen: Mapping[str, Mapping[str, Attack]]) -> tuple[dict[str, Outcome], list[dict], list[dict | None]]:
        """Every attack on every image that is right: outcomes, warnings, what was read back."""
        outcomes: dict[str, Outcome] = {}
        warnings: list[dict] = []
        taken: list[dict | None] = []
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
        outcomes: dict[str, Outcome] = {}
        warnings: list[dict] = []
        taken: list[dict | None] = []
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
    threat = Threat(checked_number("eps", eps), norm, seed, chunk).check()
    seed, chunk = threat.seed, threat.chunk
    batch_size = chunk if batch_size is None else checked_whole("batch_size", batch_size, least=1)
    check_choice("mode", mode, MODES)
    get_loss(training_loss)
    about = check_about(about)
    x, y = preconditions.check_images(x, y), y.detach().as_subclass(Tensor).long()
    check_knowledge(model, x, substitutes, guides)
    sliced = batch_size < min(chunk, len(x))
    examined = preconditions.examine(model, x[:batch_size], y[:batch_size], allow_random=allow_random, sliced=sliced)
    deterministic = examined.deterministic
    known = {"training_loss": training_loss, "substitutes": substitutes, "guides": guides}
    chosen = chosen_suites(suites, model, x[:1], norm, **known)
    if (substitutes or guides is not None) and not chosen.get(ADAPTIVE):
        raise ValueError(f"substitutes and guides are for the suite {ADAPTIVE!r}, which is not among {', '.join(chosen)}")
    seen = in_slices(model, batch_size, chunk)
    logits = logits_in_chunks(seen, x, chunk, seed)
    preconditions.check_logits(logits, y)
    classes = logits.shape[1]
    check_substitutes(substitutes, x, classes)
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
    preconditions.check_origin(model, x)
    logits = logits_in_chunks(model, x, chunk, seed)
    y = check_labels(y, len(x), logits.shape[1], values=True)
    outcome, _ = run_attack(model, attack, x, y, ~inference.wrong(logits, y), threat)
    right = outcome.attacked
    return float((right & ~outcome.success).mean())


def accuracy_by_eps(model: nn.Module, x: Tensor, y: Tensor, radii: Sequence[float], *, steps: int = 20, seed: int = 0) -> list[float]:
    """Robust accuracy under margin PGD at each eps of `radii`, in [0, 1]: a sound attack makes it fall to 0."""
    attack = partial(attacks.loss_pgd, steps=steps, loss="margin")
    return [robust_accuracy(model, x, y, attack, eps=eps, seed=seed) for eps in radii]

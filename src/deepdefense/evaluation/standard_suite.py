"""AutoAttack on all images, part by part, each batch kept as soon as it is done."""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch
from pyautoattack import checks
from torch import Tensor, nn
from tqdm import tqdm

from ..attacks.autoattack import PARTS, Log, check, logits_of, perturb
from ..cost import count_passes
from ..inference import answers, frozen, seeded
from ..storage import code_files
from ..storage.identity import model_answers
from ..storage.resumable import Pieces, fingerprint, model_fingerprint
from .report import unanswered
from .threat import Threat


@dataclass(frozen=True)
class Standard:
    """What AutoAttack did to N images.

    x_adv (N, C, H, W): the image that broke the model, else the clean one; prediction (N,): the model's answer to it
    clean (N,) bool: right from the start; broken_by (N,): index of the part in PARTS that broke it, −1 if none did
    warnings: {"part", "kind", "message", "times"} of everything the authors' code warned of
    cost: {part: {"images", "seconds", "forward", "backward"}} of the parts that ran; passes are summed over images
    taken: what was read from the folder (see `pieces.Pieces.say_taken`)
    """

    x_adv: Tensor
    prediction: Tensor
    clean: Tensor
    broken_by: Tensor
    warnings: list[dict]
    cost: dict[str, dict]
    taken: dict | None = None

    def attacked(self, part: str) -> Tensor:
        """Images that `part` was given: those right until then, (N,) bool."""
        number = PARTS.index(part)
        return self.clean & ((self.broken_by < 0) | (self.broken_by >= number)) & (part in self.cost)


KINDS = {
    "randomized": "random model",
    "probability distribution": "probabilities",
    "zero gradient": "zero gradient",
    "dynamic": "dynamic model",
    "targeted DLR": "few classes",
    "Square Attack has decreased": "Square better than white-box",
}


def _summary(messages: list[tuple[str, str]]) -> list[dict]:
    """(part, message) pairs as one entry for each part and kind, with the first message and how often there was one."""
    found: dict[tuple[str, str], dict] = {}
    for part, message in messages:
        kind = next((kind for sign, kind in KINDS.items() if sign in message), "other")
        entry = found.setdefault((part, kind), {"part": part, "kind": kind, "message": message, "times": 0})
        entry["times"] += 1
    return list(found.values())


def _model_warnings(logits: Callable, x: Tensor, y: Tensor, parts: Sequence[str] = PARTS) -> list[str]:
    """The authors' checks of the model. Their check for dynamic models counts calls over the whole life of the
    process and switches off whatever was tracing; here it starts at 0 and the tracer comes back."""
    log = Log()
    checks.check_randomized(logits, x, y, bs=len(x), logger=log)
    checks.check_range_output(logits, x, logger=log)
    checks.funcs.update(dict.fromkeys(checks.funcs, 0))
    tracer = sys.gettrace()
    try:
        checks.check_dynamic(logits, x, False, logger=log)
    finally:
        sys.settrace(tracer)
    return log.messages


def _batch(part, model, x, y, threat: Threat, settings) -> tuple[dict, dict]:
    """One part on one batch, as a piece: which images it broke, how they look, what the model says to them."""
    log, start = Log(), time.perf_counter()
    with count_passes(model) as passes:
        x_adv = perturb(part, model, x, y, threat.eps, threat.norm, threat.seed, log, **settings)
        prediction = answers(logits_of(model, x.dtype)(x_adv))
    broken = prediction != y
    tensors = {"broken": broken, "prediction": prediction[broken], "x_adv": x_adv[broken]}
    cost = {
        "images": len(y),
        "seconds": time.perf_counter() - start,
        "forward": passes.forward,
        "backward": passes.backward,
    }
    return tensors, {"cost": cost, "warnings": log.messages}


def kept_in(folder: Path) -> Path:
    """Where, in a folder of pieces, those that the present code of `standard` makes are kept: of other code, none is read."""
    code = code_files.fingerprint(code_files.files_of(__name__, "deepdefense.models", "deepdefense.losses"))
    return folder / f"standard-{code[:8]}"


def standard(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float = 8 / 255,
    norm: str = "linf",
    seed: int = 0,
    batch_size: int = 250,
    steps: int = 100,
    queries: int = 5000,
    parts: Sequence[str] = PARTS,
    wanted: Tensor | None = None,
    folder: str | Path | None = None,
    progress: bool = False,
) -> Standard:
    """AutoAttack, version "standard", on x (N, C, H, W) in [0, 1] with labels y (N,); eps in the same units.

    norm: "linf" or "l2"; batch_size is part of the result, since the authors draw the same noise for every batch
    steps, queries: anything but 100 and 5,000 is no AutoAttack, and is there for tests
    parts: which of the four to run, in their order; fewer than all are no AutoAttack
    wanted: (N,) bool, the images whose outcome matters: once none of them is right any more, the remaining parts are
    left out. All images are attacked until then, since each part draws for what the one before has left
    folder: keep each finished batch of each part there; a killed run goes on where it was. The model must be the same then:
    its weights, and what it answers to a few images (`identity.model_answers`)
    """
    unknown = [part for part in parts if part not in PARTS]
    if unknown or not parts:
        raise ValueError(f"parts must be some of {', '.join(PARTS)}; got {tuple(parts)!r}")
    x, y = check(model, x, y, eps, norm, batch_size=batch_size, steps=steps, queries=queries)
    if len(x) == 0:
        raise ValueError("no images to attack")
    threat = Threat(eps, norm, seed, batch_size)
    device, logits = x.device, logits_of(model, x.dtype)
    settings = {part: {"queries": queries} if part == "Square" else {"steps": steps} for part in PARTS}
    with frozen(model), seeded(device, seed, model), torch.no_grad():
        messages = [("model", text) for text in _model_warnings(logits, x[:batch_size], y[:batch_size], parts)]
        prediction = torch.cat([answers(logits(part)) for part in x.split(batch_size)])
        identity = {"eps": eps, "norm": norm, "seed": seed, "batch_size": batch_size, **settings}
        identity |= {"images": fingerprint(x, y), "model": model_fingerprint(model), "package": version("pyautoattack")}
        pieces = Pieces(folder, identity, answers=model_answers(model, x, eps=eps, norm=norm) if folder is not None else None)
        clean = prediction == y
        x_adv, broken_by = x.detach().clone(), torch.full((len(y),), -1, device=device)
        cost, accuracy = {}, {"clean": clean.float().mean().item()}
        with tqdm(total=len(parts) * len(y), disable=not progress, mininterval=5, unit="image") as bar:
            for number, part in ((number, part) for number, part in enumerate(PARTS) if part in parts):
                standing = clean & (broken_by < 0)
                index = standing.nonzero().flatten()
                if wanted is not None and not (standing & wanted).any():
                    break
                bar.set_description(part, refresh=False)
                bar.update(len(y) - len(index))
                if len(index) == 0:
                    continue  # nothing is left: the authors skip the remaining parts, and so their check of Square
                cost[part] = {"images": 0, "seconds": 0.0, "forward": 0, "backward": 0}
                for count, batch in enumerate(index.split(batch_size)):
                    job = partial(_batch, part, model, x[batch], y[batch], threat, settings[part])
                    tensors, facts = pieces.get(f"{part.lower()}-{count:05d}-{fingerprint(batch)[:8]}", job)  # never laid on other images
                    hit = batch[tensors["broken"].to(device)]
                    broken_by[hit] = number
                    prediction[hit] = tensors["prediction"].to(device)
                    x_adv[hit] = tensors["x_adv"].to(device)
                    messages += [(part, text) for text in facts["warnings"]]
                    cost[part] = {key: cost[part][key] + facts["cost"][key] for key in cost[part]}
                    bar.update(len(batch))
                accuracy[part.lower()] = (clean & (broken_by < 0)).float().mean().item()
    log = Log()
    checks.check_square_sr(accuracy, logger=log)
    messages += [("Square", text) for text in log.messages]
    silent = {part: int((clean & (prediction < 0) & (broken_by == number)).sum()) for number, part in enumerate(PARTS)}
    warnings = _summary(messages) + [unanswered(part, count) for part, count in silent.items() if count]
    return Standard(x_adv, prediction, clean, broken_by, warnings, cost, pieces.say_taken())

"""The standard suite: AutoAttack (Croce & Hein 2020) by its authors' own code, the package `pyautoattack`.

Four parts, one after the other, each on the images that are still right: APGD on cross-entropy and on the targeted
DLR loss (100 steps), FAB-T (100 steps; Croce & Hein 2020b) and Square (5,000 queries; Andriushchenko et al. 2020),
nine target classes where there are so many. The images are attacked exactly as by
`AutoAttack.run_standard_evaluation`. What is added: the model and the global random state stay as they were, warnings
become part of the result, and a killed run goes on.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from pyautoattack import checks
from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted
from pyautoattack.fab_pt import FABAttack_PT
from pyautoattack.square import SquareAttack
from torch import Tensor, nn
from tqdm import tqdm

from .. import sources
from ..cost import count_passes
from ..pieces import Pieces, fingerprint, model_fingerprint
from .guard import AttackError, check_inputs, check_output, frozen, seeded

AUTHORS_NORM = {"linf": "Linf", "l2": "L2"}
TARGETS = 9


class _Log:
    """What the authors' code takes for its logger: keeps the warnings."""

    def __init__(self):
        self.messages: list[str] = []

    def warning(self, message: str) -> None:
        self.messages.append(message.removesuffix(" See flags_doc.md for details."))

    def debug(self, message: str) -> None:
        pass

    info = debug


def _logits(model: nn.Module, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """`model` as the authors' code wants it: float32 in and out, and an output that may be written into (Square
    does)."""

    def logits(x: Tensor) -> Tensor:
        return model(x.to(dtype)).to(torch.float32, copy=True)

    return logits


def _common(norm: str, eps: float, seed: int, x: Tensor) -> dict:
    return dict(norm=AUTHORS_NORM[norm], eps=eps, seed=seed, device=x.device, n_restarts=1, verbose=False)


def _apgd_ce(logits, common, classes, log, steps=100):
    return APGDAttack(logits, n_iter=steps, loss="ce", eot_iter=1, rho=0.75, logger=log, **common)


def _check_classes(classes: int) -> None:
    if classes < 4:
        raise ValueError(f"the targeted DLR loss of APGD-T needs at least 4 classes; this model has {classes}")


def _apgd_t(logits, common, classes, log, steps=100):
    _check_classes(classes)
    targets = min(TARGETS, classes - 1)
    return APGDAttack_targeted(
        logits, n_iter=steps, n_target_classes=targets, eot_iter=1, rho=0.75, logger=log, **common
    )


def _fab_t(logits, common, classes, log, steps=100):
    targets = min(TARGETS, classes - 1)
    return FABAttack_PT(logits, n_iter=steps, targeted=True, n_target_classes=targets, **common)


def _square(logits, common, classes, log, queries=5000):
    return SquareAttack(logits, p_init=0.8, n_queries=queries, resc_schedule=False, **common)


MAKERS = {"APGD-CE": _apgd_ce, "APGD-T": _apgd_t, "FAB-T": _fab_t, "Square": _square}
PARTS = tuple(MAKERS)


def _check(model: nn.Module, x: Tensor, y: Tensor, eps: float, norm: str, **counts: int) -> None:
    if norm not in AUTHORS_NORM:
        raise ValueError(f"norm must be one of {', '.join(AUTHORS_NORM)}; got {norm!r}")
    if not (eps > 0 and (norm != "linf" or eps <= 1)):
        raise ValueError(f"eps must be above 0, in units of the image range, and for linf at most 1; got {eps}")
    if x.dim() != 4:
        raise ValueError(f"AutoAttack needs images (B, C, H, W), got shape {tuple(x.shape)}")
    if norm == "l2" and min(x.shape[2:]) < 5:
        raise ValueError(f"Square in L2 needs images of at least 5 × 5 pixels, got {tuple(x.shape[2:])}")
    if any(not count >= 1 for count in counts.values()):
        raise ValueError(f"{', '.join(counts)} must be at least 1, got {', '.join(map(str, counts.values()))}")
    check_inputs(model, x, y, 0.0)


def _perturb(part: str, model, x, y, eps, norm, seed, log, **settings) -> Tensor:
    """One part on one batch: what the authors' attack returns, proven to lie in the ball. `model` is frozen already."""
    logits = _logits(model, x.dtype)
    with torch.no_grad():
        classes = logits(x[:1]).shape[1]
        attack = MAKERS[part](logits, _common(norm, eps, seed, x), classes, log, **settings)
        with seeded(x.device, seed):
            single = x.detach().to(torch.float32, copy=True)
            moved = attack.perturb(single.clone(), y.clone())
        x_adv = torch.where(
            moved == single, x.detach(), moved.to(x.dtype)
        )  # pixels that did not move are the image's own
    return check_output(x, x_adv, eps, part, norm)


def _bounded(part: str, model, x, y, eps, norm, seed, **settings) -> Tensor:
    if eps == 0:  # as for the other attacks, a ball that holds nothing but the image
        check_inputs(model, x, y, 0.0)
        return x.detach().clone()
    _check(model, x, y, eps, norm, **settings)
    if len(x) == 0:
        return x.clone()
    with frozen(model):
        return _perturb(part, model, x, y, eps, norm, seed, _Log(), **settings)


def apgd_ce(
    model: nn.Module, x: Tensor, y: Tensor, *, eps: float = 8 / 255, norm: str = "linf", steps: int = 100, seed: int = 0
) -> Tensor:
    """APGD on cross-entropy, (B, C, H, W); the clean image where nothing was found, as for the other three parts.

    x (B, C, H, W) in [0, 1], y (B,), eps in the same units; norm: "linf" or "l2". The authors reseed on every call.
    """
    return _bounded("APGD-CE", model, x, y, eps, norm, seed, steps=steps)


def apgd_t(
    model: nn.Module, x: Tensor, y: Tensor, *, eps: float = 8 / 255, norm: str = "linf", steps: int = 100, seed: int = 0
) -> Tensor:
    """APGD on the DLR loss towards each of up to nine other classes, `steps` each; needs four classes."""
    return _bounded("APGD-T", model, x, y, eps, norm, seed, steps=steps)


def fab_t(
    model: nn.Module, x: Tensor, y: Tensor, *, eps: float = 8 / 255, norm: str = "linf", steps: int = 100, seed: int = 0
) -> Tensor:
    """FAB towards each of up to nine other classes: the nearest image found, kept only within eps."""
    return _bounded("FAB-T", model, x, y, eps, norm, seed, steps=steps)


def square(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float = 8 / 255,
    norm: str = "linf",
    queries: int = 5000,
    seed: int = 0,
) -> Tensor:
    """Square attack on the margin: random search, no gradient."""
    return _bounded("Square", model, x, y, eps, norm, seed, queries=queries)


@dataclass(frozen=True)
class Standard:
    """What AutoAttack did to N images.

    x_adv (N, C, H, W): the image that broke the model, else the clean one; prediction (N,): the model's answer to it
    clean (N,) bool: right from the start; broken_by (N,): index of the part in PARTS that broke it, −1 if none did
    warnings: {"part", "kind", "message", "times"} of everything the authors' code warned of
    cost: {part: {"images", "seconds", "forward", "backward"}} of the parts that ran; passes are summed over images
    """

    x_adv: Tensor
    prediction: Tensor
    clean: Tensor
    broken_by: Tensor
    warnings: list[dict]
    cost: dict[str, dict]

    @property
    def robust(self) -> Tensor:
        """Right before and after all parts, (N,) bool."""
        return self.clean & (self.broken_by < 0)

    def attacked(self, part: str) -> Tensor:
        """Images that `part` was given: those right until then, (N,) bool."""
        number = PARTS.index(part)
        return self.clean & ((self.broken_by < 0) | (self.broken_by >= number)) & (part in self.cost)

    def accuracy(self) -> dict[str, float]:
        """Share of images that are right at the start ("clean") and after each part, in [0, 1]."""
        after = {"clean": self.clean.float().mean().item()}
        for number, part in enumerate(PARTS):
            if part in self.cost:
                after[part] = (self.clean & ((self.broken_by < 0) | (self.broken_by > number))).float().mean().item()
        return after


KINDS = {
    "randomized": "random model",
    "probability distribution": "probabilities",
    "zero gradient": "zero gradient",
    "dynamic": "dynamic model",
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


def _model_warnings(logits: Callable, x: Tensor, y: Tensor) -> list[str]:
    """The authors' checks of the model. Their check for dynamic models counts calls over the whole life of the
    process and switches off whatever was tracing; here it starts at 0 and the tracer comes back."""
    log = _Log()
    checks.check_randomized(logits, x, y, bs=len(x), logger=log)
    _check_classes(checks.check_range_output(logits, x, logger=log))
    checks.funcs.update(dict.fromkeys(checks.funcs, 0))
    tracer = sys.gettrace()
    try:
        checks.check_dynamic(logits, x, False, logger=log)
    finally:
        sys.settrace(tracer)
    return log.messages


def _batch(part, model, x, y, eps, norm, seed, settings) -> tuple[dict, dict]:
    """One part on one batch, as a piece: which images it broke, how they look, what the model says to them."""
    log, start = _Log(), time.perf_counter()
    with count_passes(model) as passes:
        x_adv = _perturb(part, model, x, y, eps, norm, seed, log, **settings)
        prediction = _logits(model, x.dtype)(x_adv).max(1)[1]
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
    code = sources.fingerprint(sources.files_of("attacks.autoattack", "models", "losses"))
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
    folder: str | Path | None = None,
    progress: bool = False,
) -> Standard:
    """AutoAttack, version "standard", on x (N, C, H, W) in [0, 1] with labels y (N,); eps in the same units.

    norm: "linf" or "l2"; batch_size is part of the result, since the authors draw the same noise for every batch
    steps, queries: anything but 100 and 5,000 is no AutoAttack, and is there for tests
    folder: keep each finished batch of each part there; a killed run goes on where it was. The caller answers for the
    model being the same then, as far as its weights and its predictions on `x` do not tell.
    """
    _check(model, x, y, eps, norm, batch_size=batch_size, steps=steps, queries=queries)
    if len(x) == 0:
        raise ValueError("no images to attack")
    device, logits = x.device, _logits(model, x.dtype)
    settings = {part: {"queries": queries} if part == "Square" else {"steps": steps} for part in PARTS}
    with frozen(model), seeded(device, seed), torch.no_grad():
        messages = [("model", text) for text in _model_warnings(logits, x[:batch_size], y[:batch_size])]
        prediction = torch.cat([logits(part).max(1)[1] for part in x.split(batch_size)])
        random = any("randomized" in text for _, text in messages)
        identity = {"eps": eps, "norm": norm, "seed": seed, "batch_size": batch_size, **settings}
        identity |= {"images": fingerprint(x, y), "model": model_fingerprint(model), "package": version("pyautoattack")}
        if not random:
            identity["predictions"] = fingerprint(prediction)
        pieces = Pieces(folder, identity)
        clean = prediction == y
        x_adv, broken_by = x.detach().clone(), torch.full((len(y),), -1, device=device)
        cost, accuracy = {}, {"clean": clean.float().mean().item()}
        with tqdm(total=len(PARTS) * len(y), disable=not progress, mininterval=5, unit="image") as bar:
            for number, part in enumerate(PARTS):
                index = (clean & (broken_by < 0)).nonzero().flatten()
                bar.set_description(part, refresh=False)
                bar.update(len(y) - len(index))
                if len(index) == 0:
                    continue  # nothing is left: the authors skip the remaining parts, and so their check of Square
                cost[part] = {"images": 0, "seconds": 0.0, "forward": 0, "backward": 0}
                for count, batch in enumerate(index.split(batch_size)):
                    tensors, facts = pieces.get(
                        f"{part.lower()}-{count:05d}",
                        lambda part=part, batch=batch: _batch(
                            part, model, x[batch], y[batch], eps, norm, seed, settings[part]
                        ),
                    )
                    if len(tensors["broken"]) != len(batch):
                        raise AttackError(f"{folder} holds a piece of {part} for other images; delete the folder")
                    hit = batch[tensors["broken"].to(device)]
                    broken_by[hit] = number
                    prediction[hit] = tensors["prediction"].to(device)
                    x_adv[hit] = tensors["x_adv"].to(device)
                    messages += [(part, text) for text in facts["warnings"]]
                    cost[part] = {key: cost[part][key] + facts["cost"][key] for key in cost[part]}
                    bar.update(len(batch))
                accuracy[part.lower()] = (clean & (broken_by < 0)).float().mean().item()
    log = _Log()
    checks.check_square_sr(accuracy, logger=log)
    messages += [("Square", text) for text in log.messages]
    return Standard(x_adv, prediction, clean, broken_by, _summary(messages), cost)

"""What can be known before the first attack, and is decided there: settings, names, files, attacks that cannot be run."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ..arguments import check_labels
from ..attacks import autoattack, paper
from ..attacks.contract import Attack, entry, in_range
from ..attacks.neighbours import function_of, settings_of
from ..inference import frozen, seeded
from ..losses import dlr
from ..storage import files, paths

MODES = ("full", "worst_case")
# Entries of a summary that are the report's own.
OWN = (
    "kind", "n", "clean", "worst_case", "suites", "attacks", "robustbench", "taken", "eps", "norm", "seed", "chunk", "images", "model",
    "mode", "classes", "suites_run", "deterministic", "training_loss", "left_out", "sliced_to", "warnings", "environment",
)  # fmt: skip
# The least number of classes of attacks that need more than two.
CLASSES: dict[Callable, int] = {paper.apgdt: 4, autoattack.apgd_t: 4}
LOSS_CLASSES = {dlr.__name__: 3}


def check_about(about: Mapping | None, own: Iterable[str] = OWN) -> dict:
    """A copy of `about`; a ValueError names an entry that JSON cannot hold, or that is one of the record's `own`."""
    if about is not None and not isinstance(about, Mapping):
        raise ValueError(f"about must be a dictionary of more entries for the summary, got {about!r}")
    for key, value in (about or {}).items():
        if key in own:
            raise ValueError(f"about[{key!r}] would be lost, since the record has an entry of that name itself; give yours another name")
        try:
            json.dumps({key: value}, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"about[{key!r}] is {value!r}, which JSON cannot hold ({error}); give text, a finite number, or lists and "
                "dictionaries of them"
            ) from error
    return dict(about or {})


def writable(folder: str | Path | None) -> Path | None:
    """`folder` as a path, made where it is missing and tried; a ValueError or ResultsError says why nothing can be kept there."""
    folder = paths.given(folder)
    if folder is not None:
        files.write_bytes(folder / ".writable", b"").unlink(missing_ok=True)  # another process may have tried too
    return folder


def classes_needed(attack: Attack) -> int:
    """The least number of classes that a model must tell apart for `attack`."""
    return max(entry(CLASSES, function_of(attack)) or 2, LOSS_CLASSES.get(str(settings_of(attack).get("loss")), 2))


def possible(chosen: Mapping[str, Mapping[str, Attack]], classes: int) -> tuple[dict[str, dict[str, Attack]], list[dict[str, str]]]:
    """The attacks of `chosen` that can be run on a model of so many classes; and those that are left out, each with why.

    A ValueError where nothing of a suite is left.
    """
    kept, left_out = {}, []
    for suite, members in chosen.items():
        able = {name: attack for name, attack in members.items() if classes_needed(attack) <= classes}
        left_out += [
            {"attack": f"{suite}/{name}", "reason": f"it needs {classes_needed(attack)} classes, the model has {classes}"}
            for name, attack in members.items()
            if name not in able
        ]
        if not able:
            raise ValueError(f"no attack of suite {suite!r} can be run on a model of {classes} classes: {left_out[-1]['reason']}")
        kept[suite] = able
    return kept, left_out


def check_knowledge(model: nn.Module, x: Tensor, substitutes: Mapping[str, nn.Module] | None, guides: Sequence[Tensor] | None) -> None:
    """ValueErrors for substitutes and guides that the transfer and feature attacks cannot work with, which are on images like x."""
    if substitutes is not None and not (isinstance(substitutes, Mapping) and not isinstance(substitutes, nn.Module)):
        raise ValueError(f"substitutes must be {{name: torch.nn.Module}}, got {type(substitutes).__name__}")
    for name, network in (substitutes or {}).items():
        if "/" in str(name) or not isinstance(network, nn.Module):
            raise ValueError(f"substitutes must be {{name without '/': torch.nn.Module}}, got {name!r}: {type(network).__name__}")
    if guides is not None:
        wanted = f"guides must be (images (G, {', '.join(map(str, x.shape[1:]))}) in [0, 1], labels (G,)) of two classes or more"
        fits = len(guides) == 2 and all(isinstance(part, Tensor) for part in guides) and len(guides[0]) == len(guides[1]) > 0
        if not (fits and guides[0].shape[1:] == x.shape[1:] and len(guides[1].unique()) > 1):
            raise ValueError(wanted)
        if guides[0].dtype != x.dtype or any(part.device != x.device for part in guides):
            kinds = ", ".join(f"{part.dtype} on {part.device}" for part in guides)
            raise ValueError(f"guides must be of the type of the images, {x.dtype}, and with their labels on {x.device}; got {kinds}")
        try:
            in_range(guides[0])
            check_labels(guides[1], len(guides[1]), values=True)
        except ValueError as error:
            raise ValueError(f"{wanted}: {error}") from error


@torch.no_grad()
def check_substitutes(substitutes: Mapping[str, nn.Module] | None, x: Tensor, classes: int) -> None:
    """A ValueError unless each takes an image of x (N, C, H, W) to logits of that many classes."""
    for name, network in (substitutes or {}).items():
        if not isinstance(network, nn.Module):
            raise ValueError(f"substitute {name!r} must be a torch.nn.Module, got {type(network).__name__}")
        try:
            with frozen(network), seeded(x.device, 0, network):
                logits = network(x[:1].clone())
        except Exception as error:
            raise ValueError(f"substitute {name!r} failed on an image of shape {tuple(x[:1].shape)}: {error}") from error
        if not isinstance(logits, Tensor) or tuple(logits.shape) != (1, classes):
            got = f"got shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else f"got a {type(logits).__name__}"
            raise ValueError(f"substitute {name!r} must answer an image with {classes} logits, {got}")

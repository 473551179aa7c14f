"""What can be known before the first attack, and is decided there: settings, names, files, attacks that cannot be run."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from ..attacks import autoattack, paper
from ..attacks.contract import Attack
from ..attacks.neighbours import function_of, settings_of
from ..losses import dlr
from ..storage import files, paths

MODES = ("full", "worst_case")
# The least number of classes of attacks that need more than two.
CLASSES: dict[Callable, int] = {paper.apgdt: 4, autoattack.apgd_t: 4}
LOSS_CLASSES = {dlr.__name__: 3}


def check_about(about: Mapping | None) -> dict:
    """A copy of `about`; a ValueError names an entry that JSON cannot hold."""
    if about is not None and not isinstance(about, Mapping):
        raise ValueError(f"about must be a dictionary of more entries for the summary, got {about!r}")
    for key, value in (about or {}).items():
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
        files.write_bytes(folder / ".writable", b"").unlink()
    return folder


def classes_needed(attack: Attack) -> int:
    """The least number of classes that a model must tell apart for `attack`."""
    return max(CLASSES.get(function_of(attack), 2), LOSS_CLASSES.get(str(settings_of(attack).get("loss")), 2))


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
    """ValueErrors for substitutes and guides that the transfer and feature attacks cannot work with."""
    for name, network in (substitutes or {}).items():
        if "/" in str(name) or not isinstance(network, nn.Module):
            raise ValueError(f"substitutes must be {{name without '/': torch.nn.Module}}, got {name!r}: {type(network).__name__}")
    if guides is not None:
        fits = len(guides) == 2 and all(isinstance(part, Tensor) for part in guides) and len(guides[0]) == len(guides[1]) > 0
        if not (fits and guides[0].shape[1:] == x.shape[1:] and len(guides[1].unique()) > 1):
            raise ValueError(
                f"guides must be (images (G, {', '.join(map(str, x.shape[1:]))}) in [0, 1], labels (G,)) of two classes or more"
            )

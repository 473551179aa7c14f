"""An attack in words, as records name it."""

from functools import partial

from torch import Tensor, nn

from .. import attacks
from ..attacks.contract import Attack
from ..storage.resumable import fingerprint


def _words(value) -> str:
    """A setting in one line, the same in every process."""
    if isinstance(value, Tensor):
        return f"tensor{tuple(value.shape)} {fingerprint(value)}"
    if isinstance(value, nn.Module):
        return type(value).__qualname__
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_words, value))}]" if isinstance(value, list) else f"({', '.join(map(_words, value))})"
    return getattr(value, "__qualname__", None) or repr(value)


def describe(attack: Attack) -> str:
    """The attack in words: its function's full name and the settings bound to it."""
    settings = ""
    if isinstance(attack, partial):
        settings = ", ".join(f"{key}={_words(value)}" for key, value in sorted(attack.keywords.items()))
        attack = attack.func
    name = getattr(attack, "__qualname__", None)
    if name is None:
        name = repr(type(attack))
    elif getattr(attacks, name, None) is attack:  # the public name, which no move of a file changes
        name = f"{attacks.__name__}.{name}"
    else:
        name = f"{attack.__module__}.{name}"
    return f"{name}({settings})"

"""Generators of random numbers that a model has for itself, beside the global ones, and how they are seeded."""

import random
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

DEPTH = 4  # attributes of attributes, entries of lists, what a function closes over: so far down a generator is looked for
LEAVES = (str, bytes, int, float, type(None), Tensor, np.ndarray, np.generic, type, types.ModuleType)  # which hold none


def _restorer(generator: Any) -> Callable[[], None]:
    """What puts `generator` back as it is now."""
    if isinstance(generator, random.Random):
        return partial(generator.setstate, generator.getstate())
    if isinstance(generator, np.random.Generator):
        return partial(setattr, generator.bit_generator, "state", generator.bit_generator.state)
    return partial(generator.set_state, generator.get_state())  # torch's and NumPy's old ones


def _seed(generator: Any, seed: int) -> None:
    if isinstance(generator, torch.Generator):
        generator.manual_seed(seed)
    elif isinstance(generator, random.Random):
        generator.seed(seed)
    elif isinstance(generator, np.random.RandomState):
        generator.seed(seed % 2**32)
    else:
        generator.bit_generator.state = type(generator.bit_generator)(seed % 2**64).state


KINDS = (torch.Generator, random.Random, np.random.RandomState, np.random.Generator)


STANDARD = frozenset(vars(nn.Module()))  # attributes that every module has
HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_hooks", "_backward_pre_hooks")


def _foreign(value) -> bool:
    """Is it of a package whose own attributes are known to hold no generator?"""
    return (getattr(value, "__module__", None) or "").partition(".")[0] in ("torch", "numpy", "torchvision")


def _below(value) -> Iterator:
    """What `value` holds, a step down: entries, attributes, and of a function what it closes over and the globals it names."""
    if isinstance(value, Mapping):
        yield from list(value.values())
    elif isinstance(value, list | tuple | set | frozenset):
        yield from value
    elif isinstance(value, types.MethodType):
        yield from (value.__self__, value.__func__)
    elif isinstance(value, types.FunctionType):
        if not _foreign(value):
            yield from (cell.cell_contents for cell in value.__closure__ or () if _filled(cell))
            yield from (value.__globals__[name] for name in value.__code__.co_names if name in value.__globals__)
            yield from value.__defaults__ or ()
    elif isinstance(value, nn.Module):
        yield from (hook for name in HOOKS for hook in list((value.__dict__.get(name) or {}).values()))
        if not _foreign(type(value)):
            yield from [held for name, held in value.__dict__.items() if name not in STANDARD]
            yield getattr(type(value), "forward", None)
    else:
        yield from list(getattr(value, "__dict__", {}).values())


def _filled(cell) -> bool:
    try:
        cell.cell_contents  # noqa: B018 (an empty cell says so by an error)
    except ValueError:
        return False
    return True


def generators_of(model: nn.Module) -> list:
    """Those that `model` holds, itself or in modules, lists, helpers and hooks, or that its `forward` names; each once.

    Of torch, of NumPy (old and new) and of Python; the global ones are not the model's, and one of the operating system has no seed.
    """
    found, seen = [], set()
    known = {id(torch.default_generator), id(np.random.mtrand._rand)}
    layer: list = [*model.modules()]
    for _ in range(DEPTH):
        below: list = []
        for value in layer:
            if isinstance(value, LEAVES) or id(value) in seen:
                continue
            seen.add(id(value))
            if isinstance(value, KINDS):
                if id(value) not in known and not isinstance(value, random.SystemRandom):  # which has no state
                    found.append(value)
                continue
            below += _below(value)
        layer = below
    return found


@contextmanager
def own_generators_at(model: nn.Module, seed: int) -> Iterator[None]:
    """The generators of `model` itself at `seed`, the first of them, the next at the next; afterwards as before."""
    own = generators_of(model)
    put_back = [_restorer(generator) for generator in own]
    for number, generator in enumerate(own):
        _seed(generator, seed + number)
    try:
        yield
    finally:
        for restore in put_back:
            restore()

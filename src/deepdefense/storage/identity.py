"""What a kept result belongs to: a function down to what it holds, and a model by what it answers.

A result may be read back only while its cause is the same. `function_fingerprint` looks into a function as Python does when
it runs: its compiled code, what it closes over, its defaults, the globals it names, what a partial binds, the attributes of
an object that is called. Functions of this package are told by their files, those of a library by its version. What
cannot be looked into is never the same twice, so that nothing of it is read back.

A model's weights do not tell its code. `model_answers` are a model's numbers on fixed images, each passed alone, and the input
gradient there: kept beside a result and compared with a tolerance (`pieces.Pieces`), since a hash of rounded numbers differs
wherever one of them lies near the edge of a rounding.
"""

import builtins
import dis
import hashlib
import pickle
import re
import secrets
import sys
from collections.abc import Iterable, Mapping
from enum import Enum
from functools import partial
from importlib import import_module
from pathlib import Path, PurePath
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, MappingProxyType, MethodType, ModuleType

import numpy as np
import torch
from torch import Tensor, nn

from ..inference import frozen, seeded
from . import code_files
from .resumable import fingerprint, other_answers

ATOMS = (type(None), bool, int, float, complex, str, bytes, range, type(...), torch.dtype, torch.device, np.generic)
LOADS = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF")
LOGGING = ("append", "extend", "add")  # a container that is only handed things has no say in what a function returns
# What reads the world at run time, unseen by any look into the function.
WORLD = {"open", "eval", "exec", "globals", "environ", "getenv", "__import__", "import_module", "read_text", "read_bytes", "urlopen"}
CLASS_NOTES = ("__dict__", "__weakref__", "__doc__", "__module__", "__firstlineno__", "__static_attributes__")
UNSEEN = (TypeError, AttributeError, NotImplementedError, RuntimeError, pickle.PicklingError)
HOOKS = ("_forward_hooks", "_forward_pre_hooks")


def function_fingerprint(function) -> str:
    """Sixteen hexadecimal digits that change with anything that `function` is made of (see the head of this file).

    function: any callable, or data that one holds (tensors, modules, containers, objects); the same in every process
    """
    return _Walk().of(function)[:16]


def _hash(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


def _is_library(name: str) -> bool:
    top = name.partition(".")[0]
    file = getattr(sys.modules.get(top), "__file__", None)
    return top in sys.stdlib_module_names or (file is not None and {"site-packages", "dist-packages"} & set(Path(file).parts) != set())


def _is_ours(name: str) -> bool:
    return name.partition(".")[0] in code_files.PACKAGES


def _known(name: str) -> str | None:
    """What stands for the code of module `name` where it is this package's or a library's; None for anybody else's."""
    if _is_ours(name):
        return code_files.fingerprint(code_files.files_of(name))
    if _is_library(name):
        return f"{getattr(sys.modules.get(name.partition('.')[0]), '__version__', '')}"
    return None


def _codes(code: CodeType) -> list[CodeType]:
    """`code` and all that is defined inside it."""
    return [code, *(inner for const in code.co_consts if isinstance(const, CodeType) for inner in _codes(const))]


def _names(code: CodeType) -> tuple[set[str], set[str]]:
    """(global names that `code` reads, names that it does nothing with but hand things to)."""
    loaded: set[str] = set()
    read: set[str] = set()
    logged: set[str] = set()
    for part in _codes(code):
        steps = list(dis.get_instructions(part))
        for step, after in zip(steps, [*steps[1:], None], strict=True):
            if step.opname in LOADS:
                method = after.argval if after is not None and after.opname in ("LOAD_ATTR", "LOAD_METHOD") else None
                (logged if method in LOGGING else read).add(step.argval)
                if step.opname != "LOAD_DEREF":
                    loaded.add(step.argval)
    logged -= read
    return loaded - logged, logged


def _imported(function: FunctionType) -> dict[str, ModuleType | None]:
    """{name: module} of what `function` imports when it runs; None for what is not to be had."""
    found: dict[str, ModuleType | None] = {}
    for part in _codes(function.__code__):
        steps = list(dis.get_instructions(part))
        for number, step in enumerate(steps):
            if step.opname == "IMPORT_NAME":  # after two constants: how many packages up, and which of its names
                name = "." * steps[number - 2].argval + step.argval
                try:
                    found[name] = import_module(name, function.__globals__.get("__package__"))
                except (ImportError, TypeError):  # TypeError: relative, in no package
                    found[name] = None
    return found


class _Walk:
    """One look into a value; what was met before is told by when, so that cycles end."""

    def __init__(self, met: Mapping[int, int] = MappingProxyType({})):
        self.met = dict(met)
        self.alive: list = []  # an id is a name only while its object lives

    def of(self, value) -> str:
        if isinstance(value, ATOMS) and not isinstance(value, Enum):
            return _hash(type(value).__name__, repr(value))
        if id(value) in self.met:
            return _hash("met", str(self.met[id(value)]))
        self.met[id(value)] = len(self.met)
        self.alive.append(value)
        return _hash(type(value).__qualname__, *self._parts(value))

    def all(self, values: Iterable) -> list[str]:
        return [self.of(value) for value in values]

    def named(self, members: Mapping) -> list[str]:
        return [_hash(self.of(key), self.of(value)) for key, value in members.items()]

    def _parts(self, value) -> list[str]:
        match value:
            case Tensor():
                return [fingerprint(value)]
            case np.ndarray():
                held = self.all(value.tolist()) if value.dtype.hasobject else [hashlib.sha256(value.tobytes()).hexdigest()]
                return [str(value.dtype), str(value.shape), *held]
            case torch.Generator():
                return [fingerprint(value.get_state())]
            case nn.Module():
                return self._network(value)
            case partial():
                return [self.of(value.func), *self.all(value.args), *self.named(value.keywords)]
            case MethodType():
                return self.all([value.__func__, value.__self__])
            case FunctionType():
                return self._function(value)
            case CodeType():
                return self._code(value)
            case ModuleType():
                return self._module(value)
            case type():
                return self._class(value)
            case Enum():
                return [self.of(type(value)), value.name]
            case PurePath() | re.Pattern():
                return [repr(value)]
            case BuiltinFunctionType():
                owner = value.__self__
                return [value.__qualname__, owner.__name__ if isinstance(owner, ModuleType) else self.of(owner)]
            case list() | tuple():
                return self.all(value)
            case set() | frozenset():
                return sorted(_Walk(self.met).of(member) for member in value)
            case Mapping():
                return self.named(value)
        return self._object(value)

    def _function(self, function: FunctionType) -> list[str]:
        cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
        held = {name: cell.cell_contents for name, cell in cells.items() if cell != CellType()}  # not yet filled
        parts = [*self.all(function.__defaults__ or ()), *self.named(function.__kwdefaults__ or {})]
        name = function.__module__ or ""
        known = _known(name)
        if known is not None:
            return [name, function.__qualname__, known, *parts, *self.named(held)]
        read, logged = _names(function.__code__)
        if WORLD & {name for part in _codes(function.__code__) for name in part.co_names}:
            return [secrets.token_hex()]
        everywhere = vars(builtins) | function.__globals__
        parts += self.named(_imported(function))
        read_globals = {key: everywhere.get(key) for key in sorted(read)}
        kept = {key: value for key, value in held.items() if key not in logged}
        return [self.of(function.__code__), *parts, *self.named(kept), *self.named(read_globals), *self.named(vars(function))]

    def _code(self, code: CodeType) -> list[str]:
        names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
        counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
        return [code.co_code.hex(), repr(names), repr(counts), code.co_exceptiontable.hex(), *self.all(code.co_consts)]

    def _module(self, module: ModuleType) -> list[str]:
        known = _known(module.__name__)
        if known is not None:
            return [module.__name__, known]
        file = getattr(module, "__file__", None)
        content = hashlib.sha256(Path(file).read_bytes()).hexdigest() if file and Path(file).is_file() else ""
        members = {key: value for key, value in sorted(vars(module).items()) if not key.startswith("__")}
        return [module.__name__, content, *self.named(members)]

    def _class(self, cls: type) -> list[str]:
        known = _known(cls.__module__)
        if known is not None:
            return [cls.__module__, cls.__qualname__, known]
        members = {key: _plain(value) for key, value in sorted(vars(cls).items()) if key not in CLASS_NOTES}
        return [cls.__qualname__, *self.all(cls.__bases__), *self.named(members)]

    def _network(self, network: nn.Module) -> list[str]:
        inside = set(vars(nn.Module()))
        tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
        parts = [_hash(name, fingerprint(tensor)) for name, tensor in tensors.items()]
        for name, module in network.named_modules():
            own = {key: value for key, value in vars(module).items() if key not in inside}
            hooks = [hook for kind in HOOKS for hook in getattr(module, kind).values()]
            parts += [name, self.of(type(module)), *self.named(own), *self.all(hooks)]
        return parts

    def _object(self, value) -> list[str]:
        """An object by what a copy of it would be made from."""
        try:
            made = value.__reduce_ex__(4)
        except UNSEEN:
            if (name := getattr(value, "__qualname__", None)) is not None and _known(type(value).__module__) is not None:
                return [str(getattr(value, "__module__", "")), name]
            return [secrets.token_hex()]  # no copy can be made: locks, generators, open files
        if isinstance(made, str) and callable(getattr(value, "__wrapped__", None)):  # as functools.cache makes of a function
            return [self.of(type(value)), made, self.of(value.__wrapped__)]
        parts = [made] if isinstance(made, str) else [*made[:3], *(list(items) for items in made[3:5] if items is not None)]
        return [self.of(type(value)), *self.all(parts)]


def _plain(member):
    """What a class holds, with properties and static or class methods as the functions that they are."""
    if isinstance(member, property):
        return (member.fget, member.fset, member.fdel)
    return getattr(member, "__func__", member)


PROBES = 8  # images that a model is asked alone
SKETCH = 16  # numbers kept of a long row


def sketch(rows: Tensor) -> Tensor:
    """Rows (n, d) in float64 on the CPU, long ones as SKETCH fixed random combinations of the size of one entry."""
    rows = rows.detach().flatten(1).to("cpu", torch.float64)
    if rows.shape[1] <= SKETCH:
        return rows
    mix = torch.randn(rows.shape[1], SKETCH, generator=torch.Generator("cpu").manual_seed(0), dtype=torch.float64, device="cpu")
    return rows @ mix / rows.shape[1] ** 0.5


def _probes(x: Tensor, eps: float, norm: str) -> Tensor:
    """A few of the images x, a corner of the ball around each and a point inside it."""
    picked = x.detach()[torch.linspace(0, len(x) - 1, min(PROBES, len(x)), device="cpu").long().unique().to(x.device)]
    generator = torch.Generator("cpu").manual_seed(0)
    noise = torch.randn(picked.shape, generator=generator, dtype=torch.float64, device="cpu")
    size = noise.flatten(1).norm(dim=1).view(-1, *[1] * (x.dim() - 1))
    corner = noise.sign() if norm == "linf" else noise / size
    moves = [eps * corner, 0.4 * eps * noise.flip(0) / (1 if norm == "linf" else size.flip(0))]
    return torch.cat([picked, *((picked + move.to(picked)).clamp(0, 1) for move in moves)])


def model_answers(model: nn.Module, x: Tensor, *, eps: float, norm: str = "linf", seed: int = 0) -> dict[str, Tensor]:
    """What `model` says to a few of the images x (N, ...) in [0, 1] and within eps of them, and its gradient there.

    {"logits": (n, k), "gradient": (n, k)}, to be kept and compared by `Pieces(answers=)`: two versions of a defence with the
    same weights differ in them. Each image is passed alone with the same seed, so that no batch size has a say. Empty
    for a model whose answers differ between two passes with the same seed: they tell nothing of its code.
    """

    def once() -> dict[str, Tensor]:
        logits, gradients = [], []
        for image in _probes(x, eps, norm).split(1):
            with seeded(x.device, seed, model), torch.enable_grad():
                point = image.clone().requires_grad_()
                z = model(point.clone())
                weights = torch.arange(1, z.shape[1] + 1, device=z.device, dtype=torch.float32).sin()
                total = (z.float() * weights).sum()
                found = torch.autograd.grad(total, point, allow_unused=True)[0] if total.requires_grad else None
            logits.append(z.detach())
            gradients.append(torch.zeros_like(image) if found is None else found)
        return {"logits": sketch(torch.cat(logits)), "gradient": sketch(torch.cat(gradients))}

    with frozen(model):
        first, again = once(), once()
    return {} if other_answers(first, again) else first


def class_fingerprint(model: nn.Module) -> str:
    """Sixteen hexadecimal digits that change with the code of the classes that `model` is made of, not with its state."""
    walk = _Walk()
    return _hash(*(_hash(name, walk.of(type(module))) for name, module in model.named_modules()))[:16]

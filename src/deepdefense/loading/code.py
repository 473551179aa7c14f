"""A function out of a file or a module, by "file.py:name" or "package.module:name"."""

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from types import ModuleType

SHOWN = 8  # names in a message


@contextmanager
def function(spec: str) -> Iterator[Callable]:
    """What "module:callable" or "path/to/file.py:callable" names, to be called within; a ValueError says why there is none.

    A file may import what lies beside it, when it is loaded and within.
    """
    where, name = spec.split(":")
    with _beside(where):
        module = _import(where, spec)
        made = getattr(module, name, None)
        if not callable(made):
            raise ValueError(f"module {spec!r}: {where} has no function {name!r}{_instead(module, name)}")
        _check_alone(made, spec)
        yield made


def _instead(module: ModuleType, name: str) -> str:
    """What may have been meant by a name that `module` lacks."""
    if name.endswith("()"):
        return "; give its name without parentheses"
    own = [key for key, one in vars(module).items() if callable(one) and getattr(one, "__module__", None) == module.__name__]
    named = [key for key in own if not key.startswith("_")]
    return f"; it has {', '.join(named[:SHOWN])}" + (", …" if len(named) > SHOWN else "") if named else ""


def _check_alone(made: Callable, spec: str) -> None:
    """A ValueError if `made` cannot be called without arguments."""
    try:
        signature = inspect.signature(made)
    except (TypeError, ValueError):  # of builtins that do not tell theirs
        return
    free = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [one.name for one in signature.parameters.values() if one.default is one.empty and one.kind not in free]
    if needed:
        raise ValueError(f"module {spec!r} must take no arguments, and needs {', '.join(needed)}; name a function that gives them")


def _import(where: str, spec: str) -> ModuleType:
    try:
        return _import_file(Path(where).expanduser().resolve()) if where.endswith(".py") else importlib.import_module(where)
    except (ImportError, OSError, SyntaxError) as error:
        raise ValueError(f"module {spec!r} cannot be imported: {error}") from error
    except SystemExit as error:
        raise ValueError(f"module {spec!r} cannot be imported: {ended(error)}") from error


def ended(error: SystemExit) -> str:
    """That code of a defence has ended the program, in words, and what to do."""
    said = f" and says {error.code!r}" if isinstance(error.code, str) else ""
    return (
        f"it ends the program (SystemExit{said}), as argparse does at a command line that is not its own; put what parses arguments or "
        "trains under if __name__ == '__main__':"
    )


def _import_file(path: Path) -> ModuleType:
    """The file `path` as a module, under a name of its own in `sys.modules`, where dataclasses look for it."""
    name = f"{path.stem}_{sha256(str(path).encode()).hexdigest()[:12]}"
    found = importlib.util.spec_from_file_location(name, path)
    if found is None or found.loader is None:
        raise ImportError(f"{path} is no Python file")
    loaded = importlib.util.module_from_spec(found)
    sys.modules[name] = loaded
    try:
        found.loader.exec_module(loaded)
    except BaseException:
        del sys.modules[name]
        raise
    return loaded


_neighbours: set[str] = set()  # names in sys.modules of what the last defence imported from its own folder


@contextmanager
def _beside(where: str) -> Iterator[None]:
    """While a defence from a file is loaded and made, its folder comes first in the path of modules, as for a script.

    What the defence before this one imported from beside itself is forgotten, so that a helper of the same name is the right one.
    """
    if not where.endswith(".py"):
        yield
        return
    path = Path(where).expanduser().resolve()
    folder = path.parent
    for name in _neighbours:
        sys.modules.pop(name, None)
    _neighbours.clear()
    importlib.invalidate_caches()
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            file = getattr(sys.modules[name], "__file__", None)
            if file and folder in Path(file).parents and Path(file) != path:
                _neighbours.add(name)

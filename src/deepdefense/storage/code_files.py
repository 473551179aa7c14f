"""Which of our own files a piece of work depends on: what it imports, and what that imports, read from the sources.

A result is worth keeping as long as none of these files has changed. Nothing is imported to find out.
"""

import ast
import hashlib
from collections.abc import Iterable
from functools import cache, partial
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
NAME = PACKAGE.name


def _module(name: str) -> Path | None:
    """The file of the module `name` below this package ("" is the package itself), or None if there is none."""
    path = PACKAGE.joinpath(*name.split(".")) if name else PACKAGE
    return next((file for file in (path / "__init__.py", path.with_suffix(".py")) if file.is_file()), None)


def _imports(source: str, package: str) -> set[str]:
    """Modules of ours, as names below this package, that a source imports which itself lies in `package` ("" at the top).

    `from a import b` is the module a.b where there is one, and else a: a package is not searched for what it re-exports.
    """
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] == NAME}
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".") if package else []
            above = [NAME, *parts[: len(parts) + 1 - node.level]] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            if base.split(".")[0] == NAME:
                inside = base.removeprefix(NAME).removeprefix(".")
                found |= {f"{base}.{a.name}" if _module(f"{inside}.{a.name}".strip(".")) else base for a in node.names}
    return {name.removeprefix(NAME).removeprefix(".") for name in found}


@cache
def _closure(names: frozenset[str], without: frozenset[str] = frozenset()) -> tuple[Path, ...]:
    files: set[Path] = set()
    waiting, seen = set(names), set(without)
    while waiting:
        name = waiting.pop()
        seen.add(name)
        if (file := _module(name)) is None:
            raise ValueError(f"{NAME} has no module {name!r}")
        files.add(file)
        package = name if file.name == "__init__.py" else name.rpartition(".")[0]
        waiting |= _imports(file.read_text(encoding="utf-8"), package) - seen
    return tuple(sorted(files))


def files_of(*modules: str, without: Iterable[str] = ()) -> tuple[Path, ...]:
    """Files that `modules` ("train", "attacks.paper") depend on, themselves among them; a ValueError names an unknown one.

    without: modules that do not matter; neither they nor what only they import is counted
    """
    return _closure(frozenset(modules), frozenset(without))


def files_of_source(source: str) -> tuple[Path, ...]:
    """Files of ours that a Python source, such as the cells of a notebook, depends on."""
    return _closure(frozenset(_imports(source, "")))


def files_of_function(function) -> tuple[Path, ...]:
    """Files of ours that a function, or what a partial binds, depends on; none for one that is defined elsewhere."""
    while isinstance(function, partial):
        function = function.func
    module = getattr(function, "__module__", None) or ""
    return files_of(module.removeprefix(f"{NAME}.")) if module.startswith(f"{NAME}.") else ()


def fingerprint(files: Iterable[Path]) -> str:
    """Sixteen hexadecimal digits that change with the content or the place in the package of any of `files`."""
    digest = hashlib.sha256()
    for file in sorted(files):
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        digest.update(f"{file.relative_to(PACKAGE).as_posix()} {content}\n".encode())
    return digest.hexdigest()[:16]

"""Which of our own files a piece of work depends on: what it imports, and what that imports, read from the sources.

A result is worth keeping as long as none of these files has changed. Nothing is imported to find out. Modules are named in full
("deepdefense.gfa"). `packages` are those whose files count: this one, unless a caller has others beside it.
"""

import ast
import hashlib
from collections.abc import Iterable
from functools import cache, partial
from pathlib import Path

SOURCES = Path(__file__).resolve().parents[2]  # the folder of our packages
PACKAGES = (__name__.partition(".")[0],)


def _module(name: str, packages: tuple[str, ...]) -> Path | None:
    """The file of the module `name` of one of `packages`, or None if there is none."""
    if name.partition(".")[0] not in packages:
        return None
    path = SOURCES.joinpath(*name.split("."))
    return next((file for file in (path / "__init__.py", path.with_suffix(".py")) if file.is_file()), None)


def _imports(source: str, package: str, packages: tuple[str, ...]) -> set[str]:
    """Our modules that a source imports which itself lies in `package` ("" if in none of ours).

    `from a import b` is the module a.b where there is one, and else a: a package is not searched for what it re-exports.
    """
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            above = parts[: len(parts) + 1 - node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found |= {f"{base}.{alias.name}" if _module(f"{base}.{alias.name}", packages) else base for alias in node.names}
    return {name for name in found if name.partition(".")[0] in packages}


def _file(name: str, packages: tuple[str, ...]) -> Path:
    if (file := _module(name, packages)) is None:
        raise ValueError(f"there is no module {name!r} in {' and '.join(packages)}")
    return file


@cache
def _closure(names: frozenset[str], without: frozenset[str], packages: tuple[str, ...]) -> tuple[Path, ...]:
    for name in sorted(without):
        _file(name, packages)
    files: set[Path] = set()
    waiting, seen = set(names), set(without)
    while waiting:
        name = waiting.pop()
        seen.add(name)
        file = _file(name, packages)
        files.add(file)
        package = name if file.name == "__init__.py" else name.rpartition(".")[0]
        waiting |= _imports(file.read_text(encoding="utf-8"), package, packages) - seen
    return tuple(sorted(files))


def files_of(*modules: str, without: Iterable[str] = (), packages: tuple[str, ...] = PACKAGES) -> tuple[Path, ...]:
    """Files that `modules` ("deepdefense.gfa") depend on, themselves among them; a ValueError names an unknown one.

    without: modules that do not matter; neither they nor what only they import is counted
    """
    return _closure(frozenset(modules), frozenset(without), packages)


def files_of_source(source: str, packages: tuple[str, ...] = PACKAGES) -> tuple[Path, ...]:
    """Files of ours that a Python source, such as the cells of a notebook, depends on."""
    return _closure(frozenset(_imports(source, "", packages)), frozenset(), packages)


def files_of_function(function) -> tuple[Path, ...]:
    """Files of ours that a function, or what a partial binds, depends on; none for one that is defined elsewhere."""
    while isinstance(function, partial):
        function = function.func
    module = getattr(function, "__module__", None) or ""
    return files_of(module) if _module(module, PACKAGES) else ()


def fingerprint(files: Iterable[Path]) -> str:
    """Sixteen hexadecimal digits that change with the content or the place of any of `files`."""
    digest = hashlib.sha256()
    for file in sorted(files):
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        digest.update(f"{file.relative_to(SOURCES).as_posix()} {content}\n".encode())
    return digest.hexdigest()[:16]

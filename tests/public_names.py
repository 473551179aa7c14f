"""What is public of the library, found by importing it: what a package names in `__all__`, what a module of its top level defines."""

import importlib
import pkgutil
from functools import cache

import deepdefense

NO_PART = ("deepdefense.storage", "deepdefense.command_line")  # how results are kept, and the command: no names to be called


@cache
def found() -> dict[str, object]:
    """{full name: the thing}."""
    things: dict[str, object] = {f"deepdefense.{name}": getattr(deepdefense, name) for name in deepdefense.__all__}
    for info in pkgutil.walk_packages(deepdefense.__path__, "deepdefense."):
        module = importlib.import_module(info.name)
        names = getattr(module, "__all__", None)
        if names is None and info.name.count(".") == 1 and not info.name.startswith(NO_PART):
            names = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == info.name and name[0] != "_"]
        things |= {f"{info.name}.{name}": getattr(module, name) for name in names or ()}
    return things


def public_names() -> list[str]:
    return list(found())


def other_names(name: str) -> list[str]:
    """Other full names of the same thing: `evaluate` is exported by two packages."""
    return [other for other, thing in found().items() if thing is found()[name]]

"""Imports go down only: read from the sources, so that an arrow that leads up fails here before it costs anything.

The library never imports the study, nor what draws pictures; of the study only `experiments` runs a model; no imports run in a circle.
"""

import ast
import importlib
import inspect
import json
import pkgutil
import re
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path

import pytest

from deepdefense.storage import code_files

SOURCES = code_files.SOURCES
PACKAGES = ("deepdefense", "replication")
PICTURES = {"pandas", "matplotlib", "seaborn", "IPython"}
# What runs a model, and what the rest of the study may read all the same: what a check or a report says.
RUNS_MODELS = ("deepdefense.training", "deepdefense.masking", "deepdefense.attacks", "deepdefense.evaluation", "replication.experiments")
RECORDS_ONLY = ("replication.chapters", "replication.claims")
READABLE = {"deepdefense.masking.check", "deepdefense.evaluation.report"}


def module_name(file: Path) -> str:
    parts = file.relative_to(SOURCES).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def imports() -> dict[str, set[str]]:
    """{module: modules and packages that it imports}, those inside functions too; ours in full, others by their first name."""
    files = {module_name(file): file for package in PACKAGES for file in (SOURCES / package).rglob("*.py")}
    found = defaultdict(set)
    for name, file in files.items():
        package = name if file.name == "__init__.py" else name.rpartition(".")[0]
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found[name] |= {alias.name if alias.name in files else alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
                base = ".".join([*above, *([node.module] if node.module else [])])
                ours = base.partition(".")[0] in PACKAGES
                named = {f"{base}.{alias.name}" if f"{base}.{alias.name}" in files else base for alias in node.names}
                found[name] |= named if ours else {base.partition(".")[0]}
    return dict(found)


def below(name: str, rooms) -> bool:
    return any(name == room or name.startswith(f"{room}.") for room in rooms)


def test_the_library_knows_neither_the_study_nor_pictures():
    arrows = [(a, b) for a, named in imports().items() if below(a, ["deepdefense"]) for b in named]
    assert arrows and not [(a, b) for a, b in arrows if below(b, ["replication"]) or b in PICTURES]


def test_chapters_and_claims_run_no_model():
    arrows = [(a, b) for a, named in imports().items() if below(a, RECORDS_ONLY) for b in named]
    assert arrows and not [(a, b) for a, b in arrows if below(b, RUNS_MODELS) and b not in READABLE]


def test_chapters_of_attacks_reach_no_attack():
    """What a page of results reads: its file, what that imports, and what that imports in turn."""
    for name in ("chapters.gradient_attacks", "chapters.minimum_norm", "chapters.masking", "claims.scoreboard"):
        found = [file.relative_to(SOURCES).parts for file in code_files.files_of(f"replication.{name}", packages=PACKAGES)]
        assert len(found) > 3 and not [parts for parts in found if "attacks" in parts[:-1] or "training" in parts], name


PROMISED = {"SUITE_PAPER", "UNUSABLE", "scale_identity", "value_range"}  # for readers of the library, whether or not we use them
CALLED_BY_OTHERS = {"info", "setup", "_repr_mimebundle_"}  # by the authors' AutoAttack, its logger; by Sphinx; by Jupyter


def words(file: Path) -> Counter:
    """How often a source uses each name; what it defines is not used by that."""
    if file.suffix == ".ipynb":
        cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
        return Counter(re.findall(r"\w+", "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")))
    if file.suffix != ".py":
        return Counter(re.findall(r"\w+", file.read_text(encoding="utf-8")))
    found = Counter()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            found[node.id] += 1
        elif isinstance(node, ast.Attribute):
            found[node.attr] += 1
        elif isinstance(node, ast.alias):
            found.update(node.name.split("."))
        elif isinstance(node, ast.keyword) and node.arg:
            found[node.arg] += 1
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) < 60:
            found.update(re.findall(r"\w+", node.value))
    return found


def defined(file: Path) -> set[str]:
    """Functions, classes, constants, and the methods and fields of classes."""
    found = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        inside = node.body if isinstance(node, ast.ClassDef) else []
        for one in [node, *inside]:
            if isinstance(one, ast.FunctionDef | ast.ClassDef):
                found.add(one.name)
            elif isinstance(one, ast.AnnAssign | ast.Assign):
                targets = one.targets if isinstance(one, ast.Assign) else [one.target]
                found |= {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    return {name for name in found if not name.startswith("__")}


def test_nothing_is_used_by_tests_alone():
    """By name: a name that another file uses too for something else counts as used."""
    root = SOURCES.parent
    folders = [folder for name in ("workflow", "tools", "benchmarks") for folder in (root / name).glob("*.py")]
    files = [*SOURCES.rglob("*.py"), *folders, root / "workflow" / "Snakefile", *(root / "book").glob("*.ipynb")]
    used = sum(map(words, files), Counter())
    assert used["evaluate"] and used["frozen"] > 20
    unused = {f"{module_name(file)}.{name}" for file in SOURCES.rglob("*.py") for name in defined(file) if not used[name]}
    assert not {name for name in unused if name.rpartition(".")[2] not in PROMISED | CALLED_BY_OTHERS}


def test_a_file_holds_one_idea():
    lengths = {module_name(file): len(file.read_text(encoding="utf-8").splitlines()) for file in SOURCES.rglob("*.py")}
    assert lengths and not {name: length for name, length in lengths.items() if length > 350}


def test_evaluation_knows_no_training():
    arrows = [(a, b) for a, named in imports().items() if below(a, ["deepdefense.evaluation", "deepdefense.attacks"]) for b in named]
    assert arrows and not [(a, b) for a, b in arrows if below(b, ["deepdefense.training", "deepdefense.objectives", "deepdefense.masking"])]
    reached = code_files.files_of("deepdefense.evaluation.protocol")
    inside = [file.relative_to(SOURCES).parts for file in reached]  # a checkout may lie in a folder of any name
    assert inside and not [parts for parts in inside if "training" in parts or "objectives" in parts]


def test_attacks_know_of_no_disk():
    arrows = [(a, b) for a, named in imports().items() if below(a, ["deepdefense.attacks"]) for b in named]
    assert not [(a, b) for a, b in arrows if below(b, ["deepdefense.storage", "deepdefense.evaluation"])]


def test_no_imports_run_in_a_circle():
    """A package's own file counts as its members' neighbour: importing a member runs it, but needs nothing of it."""
    arrows, done, path = imports(), set(), []

    def walk(name: str):
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name in done:
            return
        path.append(name)
        for other in sorted(arrows.get(name, ())):
            if other in arrows and not name.startswith(f"{other}."):
                walk(other)
        path.pop()
        done.add(name)

    for name in sorted(arrows):
        walk(name)


def modules():
    for package in PACKAGES:
        for found in pkgutil.walk_packages([str(SOURCES / package)], f"{package}."):
            yield importlib.import_module(found.name)


def test_no_class_has_a_name_twice():
    owners = defaultdict(set)
    for module in modules():
        for name, value in vars(module).items():
            if inspect.isclass(value) and value.__module__ == module.__name__ and not name.startswith("_"):
                owners[name].add(module.__name__)
    assert owners and not {name: where for name, where in owners.items() if len(where) > 1}


@pytest.mark.parametrize("package", ["deepdefense.attacks", "deepdefense.masking", "deepdefense.evaluation", "deepdefense.training"])
def test_no_module_is_hidden_by_a_function_of_its_package(package):
    found = importlib.import_module(package)
    for member in pkgutil.iter_modules(found.__path__):
        importlib.import_module(f"{package}.{member.name}")
        assert inspect.ismodule(getattr(found, member.name)), f"{package}.{member.name} is hidden"

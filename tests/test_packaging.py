"""The dependency lists agree, and the check notices when they do not; licences and citation say what they must."""

import importlib.metadata
import importlib.resources
import inspect
import os
import pkgutil
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import dependencies
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from deepdefense import attacks

ROOT = Path(__file__).resolve().parents[1]
LISTS = ("pyproject.toml", "environment.yml", "requirements.lock")


@pytest.fixture
def lists(tmp_path) -> Path:
    """A folder with copies of the three lists, to be spoilt."""
    for name in LISTS:
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def spoil(folder: Path, name: str, pattern: str, replacement: str) -> list[str]:
    """Change one list and return what the check says."""
    before = (folder / name).read_text(encoding="utf-8")
    after, times = re.subn(pattern, replacement, before, flags=re.MULTILINE)
    assert times, f"{pattern} is not in {name}"
    (folder / name).write_text(after, encoding="utf-8")
    return dependencies.check(folder)


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_leaves_an_environment_alone_that_it_did_not_make(lists):
    """Their own .venv, full of what they installed, is not cleared; one whose making was begun here is made anew."""
    shutil.copy(ROOT / "Makefile", lists)
    mine = lists / ".venv" / "mine"
    mine.parent.mkdir()
    mine.touch()
    # A stand-in for Python that fails as soon as it is to make an environment.
    stand_in = lists / "python"
    stand_in.write_text('#!/bin/sh\n[ "$1" = -c ] && exit 0\nexit 7\n')
    stand_in.chmod(0o755)

    def make():
        return subprocess.run(["make", "lint", f"PYTHON={stand_in}"], cwd=lists, capture_output=True, text=True, timeout=60)

    refused = make()
    assert refused.returncode and "a .venv that make did not make" in refused.stderr and mine.exists()
    (lists / ".venv" / ".begun").touch()
    assert make().returncode and not mine.exists()
    mine.parent.joinpath(".begun").unlink()
    assert "did not make" not in make().stderr, "an empty one is nobody's"


def test_lists_agree():
    assert dependencies.check(ROOT) == []


@pytest.mark.parametrize(
    ("name", "pattern", "replacement", "said"),
    [
        ("requirements.lock", r"^torchattacks==.*\n", "", "no version(s) of torchattacks"),
        ("requirements.lock", r"^torch==.*", "torch==2.0.0", "torch 2.0.0"),
        ("requirements.lock", r"^requests==.*", "requests==2.25.1", "requests 2.25.1"),
        ("requirements.lock", r"^numpy==[0-9.]+ (; python_full_version >= .*)", r"numpy==1.0 \1", "numpy 1.0"),
        ("requirements.lock", r"^numpy==.* ; python_full_version >= .*\n", "", "no version(s) of numpy on Python 3.12"),
        ("requirements.lock", r"^torch==(.*)", r"torch>=\1", "does not give torch one version"),
        ("requirements.lock", r"^setuptools==.*", "setuptools==60.0", "setuptools 60.0"),
        ("requirements.lock", r"\A", "--index-url https://packages.example/simple\n", "line 1 holds an address"),
        ("requirements.lock", r"^torch==.*", "torch @ https://packages.example/torch.whl", "holds an address"),
        ("requirements.lock", r"^torch==.*", "torch = 2", "cannot be read"),
        ("environment.yml", r"^ *- torch>=.*\n", "", "lacks ['- torch>="),
        ("environment.yml", r"- python=.*", "- python=3.9", "has ['- python=3.9']"),
        ("environment.yml", r"torchattacks==[0-9.]+ &&", "torchattacks==1.0 &&", "torchattacks==1.0"),
        ("pyproject.toml", r'"torch>=.*"', '"torch>=99"', "asks for torch>=99"),
        ("pyproject.toml", r'"numpy>=.*",', '"numpy>=1.26",\n    "einops>=0.8",', "no version(s) of einops"),
        ("pyproject.toml", r'"tqdm>=.*",\n', "", "lock has tqdm for a requirement that pyproject.toml no longer names"),
        ("pyproject.toml", r'"seaborn>=.*",\n', "", "environment.yml differs"),
        ("pyproject.toml", r'"torchattacks==.*"', '"torchattacks==3.4.0"', "asks for torchattacks==3.4.0"),
        ("pyproject.toml", r"^requires-python = .*", 'requires-python = ">=3.12"', "3.11, outside requires-python"),
    ],
)  # fmt: skip
def test_check_notices(lists, name, pattern, replacement, said):
    assert said in "\n".join(spoil(lists, name, pattern, replacement))


@pytest.mark.parametrize("name", ["environment.yml", "requirements.lock"])
def test_check_notices_a_missing_list(lists, name):
    (lists / name).unlink()
    assert dependencies.check(lists) == [f"{name} is missing."]


def test_check_ends_with_status_1(lists):
    (lists / "tools").mkdir()
    script = shutil.copy(ROOT / "tools" / "dependencies.py", lists / "tools")
    command = [sys.executable, script, "--check"]
    assert subprocess.run(command, capture_output=True).returncode == 0
    spoil(lists, "environment.yml", "conda-forge", "defaults")
    before = [(lists / name).read_bytes() for name in LISTS]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "environment.yml differs" in done.stderr
    assert before == [(lists / name).read_bytes() for name in LISTS]


def test_environment_lists_what_pip_can_resolve_alone():
    document = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    listed = {canonicalize_name(Requirement(line).name) for line in document["dependencies"][-1]["pip"]}
    assert {"torch", "jupyter-book", "pytest", "requests"} <= listed
    assert "torchattacks" not in listed


def test_installed_versions_are_allowed():
    project = dependencies.read_project(ROOT)
    for item in dependencies.listed(project) + project["no-deps"]:
        assert item.specifier.contains(importlib.metadata.version(item.name)), f"{item} is not what is installed"


def test_no_vulnerable_requests():
    assert Version(importlib.metadata.version("requests")) >= Version("2.32")


def test_library_alone_brings_no_book_tools():
    """What the library's own requirements pull in, and what those pull in, and so on."""
    project = dependencies.read_project(ROOT)
    extras = {canonicalize_name(item.name) for items in project["extras"].values() for item in items}
    brought, waiting = set(), [canonicalize_name(item.name) for item in project["core"]]
    while waiting:
        name = waiting.pop()
        if name in brought:
            continue
        brought.add(name)
        for line in importlib.metadata.requires(name) or []:
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(canonicalize_name(requirement.name))
    assert {"torch", "numpy", "safetensors"} <= brought
    assert not brought & extras


def test_library_imports_without_book_tools():
    """As after a plain `pip install -e .`: nothing of the extras is there, nor torchattacks."""
    absent = ("IPython", "jupyter_book", "matplotlib", "pandas", "papermill", "requests", "seaborn", "torchattacks", "replication")
    code = f"import sys\nfor name in {absent}: sys.modules[name] = None\n"
    package = importlib.resources.files("deepdefense")
    library = [found.name for found in pkgutil.walk_packages([str(package)], "deepdefense.")]
    assert len(library) > 50
    code += "".join(f"import {name}\n" for name in library)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


USER = """
from pathlib import Path

import torch
from deepdefense import Report, attacks, data, evaluate, masking, models, training
from deepdefense.attacks.contract import Attack
from deepdefense.gfa import gfa_loss
from torch import Tensor, nn

digits = data.load("digits")
model = models.build("cnn", digits.in_shape, classes=10, seed=0)
x, y = digits.test.images()[:20], digits.test.y[:20]

def mine(model: nn.Module, x: Tensor, y: Tensor, *, eps: float, seed: int = 0) -> Tensor:
    return attacks.pgd(model, x, y, eps=eps, steps=2, seed=seed)

def trained(epochs: int) -> nn.Module:
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for xb, yb in data.batches(digits.train, 64, generator=torch.Generator().manual_seed(0)):
        loss = gfa_loss(model, xb, yb, lam=0.1, layers="first", form="cos")
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return training.fit(training.TrainConfig(epochs=epochs), dataset=digits, device="cpu").best

def tested(defence: nn.Module, folder: Path) -> Report:
    own: list[Attack] = [mine, attacks.square]
    suites = ["standard", {"mine": {str(number): attack for number, attack in enumerate(own)}}]
    report = evaluate(defence, x, y, eps=0.1, suites=suites, folder=folder)
    found = masking.report(defence, x, y, eps=0.1, white_box_attacks={"mine": mine}, evaluated=report)
    print(report.robust().mean(), report.summary()["robustbench"], [check.verdict for check in found.checks])
    return report
"""

# What the checker must refuse, so that no type of the program above is merely unknown to it: code -> kind of error.
MISUSED = {
    "gfa_loss(model, x, y)": "call-arg",
    "evaluate(model, x, y)": "call-arg",
    "masking.report(model, x, y, eps='8/255')": "arg-type",
    "training.fit('digits')": "arg-type",
    "n = gfa_loss(model, x, y, lam=0.1)": "assignment",
    "n = data.load('digits')": "assignment",
    "n = digits.in_shape": "assignment",
    "n = digits.test.images()": "assignment",
    "n = models.build('cnn', (1, 8, 8), 10)": "assignment",
    "n = model.scaled(x)": "assignment",
    "n = evaluate(model, x, y, eps=0.1)": "assignment",
    "n = masking.report(model, x, y, eps=0.1)": "assignment",
    "n = training.fit(training.TrainConfig())": "assignment",
}


@pytest.mark.slow
def test_users_programs_are_checked_by_the_librarys_types(tmp_path):
    """A program on the public surface is accepted, strictly; and each misuse, a line, is refused for what it is."""
    functions = {name: attack for name in attacks.__all__ if not isinstance(attack := getattr(attacks, name), type)}
    given = {name: set(inspect.signature(function).parameters) for name, function in functions.items()}
    calls = {name: ", eps=0.1" * ("eps" in names) for name, names in given.items() if "seed" in names and "attacks" not in names}
    assert {"pgd", "deepfool_l2", "square"} <= set(calls)
    misused = MISUSED | {f"n = attacks.{name}(model, x, y{eps})": "assignment" for name, eps in calls.items()}
    lines = [*USER.splitlines(), "n: int"]
    misuse = "\n".join([*lines, *misused])
    (tmp_path / "user.py").write_text(USER, encoding="utf-8")
    (tmp_path / "misuse.py").write_text(misuse, encoding="utf-8")
    options = ["--strict", "--ignore-missing-imports", "--follow-imports=silent", "--no-error-summary"]
    command = [sys.executable, "-m", "mypy", *options, "--config-file=", f"--cache-dir={tmp_path / 'cache'}", "user.py", "misuse.py"]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | {"MYPYPATH": str(ROOT / "src")}, capture_output=True, text=True)
    said = re.findall(r"^(\w+)\.py:(\d+): error: .*\[([\w-]+)\]$", done.stdout, flags=re.MULTILINE)
    wanted = [("misuse", str(number), kind) for number, kind in enumerate(misused.values(), len(lines) + 1)]
    assert said == wanted, done.stdout + done.stderr


def test_the_package_carries_its_types():
    assert (ROOT / "src" / "deepdefense" / "py.typed").read_bytes() == b""
    packaged = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["package-data"]
    assert packaged == {"deepdefense": ["py.typed", "html_report/page.html", "html_report/page.css"], "replication": ["site/records.css"]}


def test_licences():
    mit = (ROOT / "LICENSE").read_text(encoding="utf-8")
    text = (ROOT / "LICENSE-TEXT").read_text(encoding="utf-8")
    assert mit.startswith("MIT License\n") and 'THE SOFTWARE IS PROVIDED "AS IS"' in mit
    assert "CC-BY-4.0" in text and "https://creativecommons.org/licenses/by/4.0/" in text
    holder = "Copyright (c) 2026 The [Re] DeepDefense authors"
    assert holder in mit and holder in text
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["license"] == "MIT AND CC-BY-4.0"


def test_citation():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    document = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project, version = document["project"], document["tool"]["setuptools_scm"]["fallback_version"]
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["cff-version"] == "1.2.0"
    assert str(citation["version"]) == version
    assert [author["name"] for author in citation["authors"]] == [author["name"] for author in project["authors"]]
    paper = citation["references"][0]
    bibliography = (ROOT / "book" / "references.bib").read_text(encoding="utf-8")
    assert paper["title"] in re.sub(r"[{}]", "", bibliography)
    assert paper["identifiers"][0]["value"].removeprefix("arXiv:") in bibliography

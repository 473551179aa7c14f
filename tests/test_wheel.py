"""A built wheel, in an environment of its own without the book's tools, gives the library and the command; versions come from tags."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import dependencies
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
CLEAN = {
    key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME") and not key.startswith("SETUPTOOLS_SCM")
}


def run(*command, **options) -> subprocess.CompletedProcess:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, env=CLEAN, stdin=subprocess.DEVNULL, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> Path:
    """What a wheel is built from, without the clone around it."""
    folder = tmp_path_factory.mktemp("sources")
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    for path in (ROOT / "pyproject.toml", ROOT / "README.md", *ROOT.glob("LICENSE*")):
        shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="module")
def wheel(sources, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-index", "--no-build-isolation", "-w", folder, sources)
    (found,) = folder.glob("deepdefense-*.whl")
    return found


def required() -> set[str]:
    """The library's own requirements, and what those require, and so on."""
    waiting, found = [canonicalize_name(item.name) for item in dependencies.read_project(ROOT)["core"]], set()
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        needs = map(Requirement, importlib.metadata.requires(name) or [])
        waiting += [canonicalize_name(item.name) for item in needs if item.marker is None or item.marker.evaluate({"extra": ""})]
    return found


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory) -> Path:
    """The bin folder of a fresh environment with the wheel in it; its requirements, and they alone, are those installed here."""
    folder = tmp_path_factory.mktemp("fresh")
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv")
    shared = folder / "requirements"
    shared.mkdir()
    for name in required():
        for path in importlib.metadata.files(name) or []:
            top = shared / path.parts[0]
            if path.parts[0] not in ("..", "__pycache__") and not top.exists():
                top.symlink_to(Path(str(path.locate())).parents[len(path.parts) - 1] / path.parts[0])
    (packages,) = folder.glob("venv/lib/python3*/site-packages")
    (packages / "requirements.pth").write_text(f"{shared}\n")
    python = folder / "venv" / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", wheel)
    return python.parent


def test_what_is_in_the_wheel(wheel):
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
        (entry,) = [file.read(name).decode() for name in names if name.endswith("entry_points.txt")]
    assert {"deepdefense/py.typed", "deepdefense/html_report/page.html", "deepdefense/html_report/page.css"} <= names
    assert {"deepdefense/__init__.py", "deepdefense/command_line/main.py", "deepdefense/attacks/suites.py"} <= names
    assert entry.split("\n")[:2] == ["[console_scripts]", "deepdefense = deepdefense.command_line.main:main"]
    assert not [name for name in names if name.split("/")[0] not in ("deepdefense", "replication") and ".dist-info" not in name]


@pytest.mark.slow
def test_the_wheel_gives_the_command_without_the_books_tools(environment, tmp_path):
    """As a stranger: a file of one's own, from a folder of one's own, to a report."""
    (tmp_path / "my_defence.py").write_text(
        "import torch\nfrom deepdefense import models\ndef make():\n    model = models.build('mlp', (1, 8, 8), 10, width=0.1, seed=2)\n"
        "    x = torch.rand(20, 1, 8, 8)\n    return model, x, model(x).argmax(1)\n"
    )
    command = ["evaluate", "my_defence.py:make", "--eps", "8/255", "--suites", "adaptive", "--images", "20", "--html", "report.html"]
    done = run(environment / "deepdefense", *command, cwd=tmp_path)
    assert "robust accuracy" in done.stdout and "my_defence.py:make under attack" in (tmp_path / "report.html").read_text()
    tools = ("matplotlib", "pandas", "IPython", "jupyter_book", "pytest", "torchattacks")
    program = [  # in one process, since each has torch to import
        f"import importlib.util; assert not [name for name in {tools} if importlib.util.find_spec(name)]",
        f"import deepdefense; assert {str(environment.parent)!r} in deepdefense.__file__ and deepdefense.__version__ == '0.1.0'",
        f"from deepdefense.command_line.main import main; assert main({command[:4]}) == 2",
    ]
    refused = run(environment / "python", "-c", "\n".join(program), cwd=tmp_path).stderr
    assert "torchattacks is not installed; run `pip install --no-deps" in refused.splitlines()[-1]


def version_of(folder: Path) -> Version:
    return Version(run(sys.executable, "-m", "setuptools_scm", cwd=folder).stdout.strip().splitlines()[-1])


def test_versions_come_from_tags_and_do_without_them(sources, tmp_path):
    folder = tmp_path / "clone"
    folder.mkdir()
    shutil.copy(sources / "pyproject.toml", folder)
    assert version_of(folder) == Version("0.1.0")  # an archive, no clone
    git = ["git", "-C", folder, "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        run(*git, *words)
    untagged = version_of(folder)
    assert untagged.is_devrelease and untagged.release == (0, 1, 1) and untagged.local.startswith("g")
    run(*git, "tag", "v0.2.0")
    assert version_of(folder) == Version("0.2.0")
    (folder / "more").write_text("")
    run(*git, "add", ".")
    run(*git, "commit", "-qm", "second")
    later = version_of(folder)
    assert later.is_devrelease and later.release == (0, 2, 1) and later.local.startswith("g")

"""pyproject.toml is the one list of dependencies; this writes the other two from it.

python tools/dependencies.py            write environment.yml, and requirements.lock with uv (`pip install uv`)
python tools/dependencies.py --upgrade  the same, taking the newest versions instead of keeping the locked ones
python tools/dependencies.py --check    write nothing; name what differs and end with status 1 (no uv, no network)
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.11", "3.12", "3.13")
CONDA_PYTHON = PYTHONS[0]  # what environment.yml asks for, and the oldest Python that the lock must serve
LOCK_HEADER = """\
# Every package of the library, the book and the tests at one version, for Python 3.11 to 3.13.
# Made from pyproject.toml by `python tools/dependencies.py`; do not edit. Installed with
#     pip install --no-deps -r requirements.lock
#     pip install --no-deps --no-build-isolation -e .
# (--no-deps because torchattacks asks for a requests with known vulnerabilities; this list overrides it).
"""


def read_project(root: Path = ROOT) -> dict:
    """The parts of pyproject.toml that name packages, as lists of `Requirement`."""
    with open(root / "pyproject.toml", "rb") as file:
        document = tomllib.load(file)
    project = document["project"]
    return {
        "name": canonicalize_name(project["name"]),
        "python": SpecifierSet(project["requires-python"]),
        "core": parse(project["dependencies"]),
        "extras": {name: parse(lines) for name, lines in project["optional-dependencies"].items()},
        "no-deps": parse(document["dependency-groups"]["no-deps"]),
        "overrides": parse(document["tool"]["uv"]["override-dependencies"]),
        "build": parse(document["build-system"]["requires"]),
    }


def parse(lines: list[str]) -> list[Requirement]:
    return [Requirement(line) for line in lines]


def listed(project: dict) -> list[Requirement]:
    """What pip may resolve by itself: the library's requirements and those of its extras."""
    return project["core"] + [item for items in project["extras"].values() for item in items]


def text(requirement: Requirement) -> str:
    """As written in pyproject.toml: the version first asked for, then its limits."""
    limits = sorted(map(str, requirement.specifier), key=lambda limit: (limit[0] in "<!", limit))
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    marker = f" ; {requirement.marker}" if requirement.marker else ""
    return f"{requirement.name}{extras}{','.join(limits)}{marker}"


def environment(project: dict) -> str:
    """The text of environment.yml."""
    alone = " ".join(text(item) for item in project["no-deps"])
    lines = [
        "# For conda and mamba. Made from pyproject.toml by `python tools/dependencies.py`; do not edit.",
        "#     conda env create -f environment.yml && conda activate deepdefense",
        f"#     pip install --no-deps {alone} && pip install --no-deps -e .",
        "# The second line stands apart: torchattacks asks for requests~=2.25.1, which has known vulnerabilities and",
        "# conflicts with JupyterLab, and pip cannot override that inside this list. It never imports requests.",
        f"name: {project['name']}",
        "channels:",
        "  - conda-forge",
        "dependencies:",
        f"  - python={CONDA_PYTHON}",
        "  - pip",
        "  - make",
        "  - git",
        "  - pip:",
    ]
    lines += [f"      - {quoted(text(item))}" for item in listed(project)]
    return "\n".join(lines) + "\n"


def quoted(line: str) -> str:
    """Quoted where YAML would take part of the line for something else."""
    return f'"{line}"' if " " in line or "," in line or "[" in line else line


def locked(content: str) -> list[Requirement]:
    """The entries of requirements.lock, each `name==version`, some of them with a marker."""
    lines = (line.split("#")[0].strip() for line in content.splitlines())
    return [Requirement(line) for line in lines if line]


def choose(entries: list[Requirement], python: str) -> dict[str, list[str]]:
    """The versions that the lock gives each package on Linux with that Python."""
    machine = {
        "python_version": python, "python_full_version": f"{python}.9", "sys_platform": "linux", "os_name": "posix",
        "platform_system": "Linux", "platform_machine": "x86_64", "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }  # fmt: skip
    chosen: dict[str, list[str]] = {}
    for entry in entries:
        if entry.marker is None or entry.marker.evaluate(machine):
            chosen.setdefault(canonicalize_name(entry.name), []).append(str(entry.specifier).removeprefix("=="))
    return chosen


def check_lock(project: dict, content: str) -> list[str]:
    """What is wrong with the text of requirements.lock, one sentence each."""
    found = []
    for number, line in enumerate(content.splitlines(), 1):
        if "://" in line or re.match(r"\s*-", line):
            found.append(f"requirements.lock line {number} holds an address or an option of pip: {line.strip()}")
    if found:
        return found
    try:
        entries = locked(content)
    except InvalidRequirement as error:
        return [f"requirements.lock cannot be read: {str(error).splitlines()[0]}"]
    loose = [entry for entry in entries if not re.fullmatch(r"==[^*,]+", str(entry.specifier))]
    if loose:
        return [f"requirements.lock does not give {entry.name} one version." for entry in loose]

    asked = listed(project) + project["no-deps"] + project["overrides"] + project["build"]
    for python in PYTHONS:
        chosen = choose(entries, python)
        for requirement in asked:
            versions = chosen.get(canonicalize_name(requirement.name), [])
            if len(versions) != 1:
                found.append(
                    f"requirements.lock has {len(versions) or 'no'} version(s) of {requirement.name} "
                    f"on Python {python}, and pyproject.toml asks for {text(requirement)}."
                )
            elif not requirement.specifier.contains(versions[0], prereleases=True):
                found.append(
                    f"requirements.lock has {requirement.name} {versions[0]} "
                    f"on Python {python}, and pyproject.toml asks for {text(requirement)}."
                )

    # uv notes beside each entry who asked for it; what pyproject.toml no longer asks for must not say it does
    names = {canonicalize_name(item.name) for item in asked}
    for block in re.split(r"\n(?=[A-Za-z0-9])", content):
        name = canonicalize_name(re.match(r"[A-Za-z0-9._-]*", block).group())
        if f"{project['name']} (pyproject.toml" in block and name not in names:
            found.append(f"requirements.lock has {name} for a requirement that pyproject.toml no longer names.")
    return list(dict.fromkeys(found))


def check(root: Path = ROOT) -> list[str]:
    """Where environment.yml and requirements.lock differ from pyproject.toml, one sentence each."""
    project = read_project(root)
    found = []
    outside = [python for python in PYTHONS if not project["python"].contains(f"{python}.0")]
    if outside:
        found.append(f"tools/dependencies.py checks Python {', '.join(outside)}, outside requires-python.")
    for name in ("environment.yml", "requirements.lock"):
        if not (root / name).is_file():
            found.append(f"{name} is missing.")
        elif name == "requirements.lock":
            found += check_lock(project, (root / name).read_text(encoding="utf-8"))
        elif (root / name).read_text(encoding="utf-8") != (wanted := environment(project)):
            mine, theirs = set(wanted.splitlines()), set((root / name).read_text(encoding="utf-8").splitlines())
            missing, extra = (sorted(line.strip() for line in lines) for lines in (mine - theirs, theirs - mine))
            found.append(f"environment.yml differs from pyproject.toml: lacks {missing}, has {extra}.")
    return found


def write(root: Path, upgrade: bool) -> None:
    """Write environment.yml, then resolve and write requirements.lock."""
    project = read_project(root)
    (root / "environment.yml").write_text(environment(project), encoding="utf-8")
    print("wrote environment.yml")
    uv = shutil.which("uv")
    if uv is None:
        sys.exit("requirements.lock is not written: uv is not installed (`pip install uv`).")
    extras = [part for name in project["extras"] for part in ("--extra", name)]
    command = [uv, "pip", "compile", "pyproject.toml", *extras, "--group", "no-deps", "--python-version", PYTHONS[0]]
    command += ["--universal", "--no-header", "--quiet", "--output-file", "requirements.lock"]
    if subprocess.run(command + ["--upgrade"] * upgrade, cwd=root, stdin=subprocess.DEVNULL).returncode:
        sys.exit("requirements.lock is not written: uv found no set of versions, see above.")
    lock = root / "requirements.lock"
    body = lock.read_text(encoding="utf-8")
    fresh = lock.with_suffix(".new")
    fresh.write_text(LOCK_HEADER + body.removeprefix(LOCK_HEADER), encoding="utf-8")
    os.replace(fresh, lock)
    print("wrote requirements.lock")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; status 1 if the lists differ")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions")
    options = parser.parse_args(arguments)
    if not options.check:
        write(ROOT, options.upgrade)
    found = check()
    for sentence in found:
        print(sentence, file=sys.stderr)
    if found:
        print("Write the lists again with `python tools/dependencies.py`.", file=sys.stderr)
        return 1
    print("pyproject.toml, environment.yml and requirements.lock agree.")
    return 0


if __name__ == "__main__":
    sys.exit(main())

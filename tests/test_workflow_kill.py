"""The workflow killed with SIGKILL at five moments ends as if never stopped; a change reruns what depends on it, nothing else."""

import os
import signal
import subprocess
import time
from pathlib import Path

import checkout
import pytest

from deepdefense.storage import files


def processes(root: Path) -> list[int]:
    """Processes that execute a notebook of the checkout `root`."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            command, environment = (path / "cmdline").read_bytes(), (path / "environ").read_bytes()
        except OSError:
            continue
        if b"run_notebook" in command and f"DEEPDEFENSE_DATA={root}/kept".encode() in environment:
            found.append(int(path.name))
    return found


MOMENTS = {
    "as it starts": lambda root: time.sleep(1.0) or True,
    "within a training run": lambda root: list((root / "kept" / "runs").glob("*/state.json")),
    "after a training run": lambda root: list((root / "kept" / "runs").glob("*/run.json")),
    "within an attack": lambda root: list((root / "kept" / "runs").glob("*/report-*/pieces/gradient/*/*")),
    "as the site is built": lambda root: list((root / "_build" / "reproduce-smoke" / "_build").rglob("*.html")),
}


def kill_when(root: Path, moment) -> None:
    """Start the workflow in a session of its own, and kill its first process alone once `moment` has come."""
    settings = dict(env=checkout.environment(root), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    process = subprocess.Popen(checkout.command(root), start_new_session=True, **settings)
    deadline = time.monotonic() + 300
    while not moment(root):
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 20
    while processes(root):  # they die with it
        assert time.monotonic() < deadline, "jobs went on after the kill"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """An undisturbed run of the workflow."""
    root = checkout.make(tmp_path_factory.mktemp("whole"))
    done = checkout.reproduce(root)
    assert done.returncode == 0, done.stdout + done.stderr
    return root


def test_killed_at_five_moments_is_as_if_never_stopped(whole, tmp_path):
    root = checkout.make(tmp_path / "a {strange} folder")
    for moment in MOMENTS.values():
        kill_when(root, moment)
    done = checkout.reproduce(root)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "train digits" not in done.stdout, "a finished run was repeated"
    made, expected = checkout.results(root), checkout.results(whole)
    assert len([name for name in expected if name.endswith("run.json")]) == 2
    assert len([name for name in expected if name.endswith("report.parquet")]) == 2
    assert made == expected


def test_second_call_does_nothing(whole):
    before = {path: path.stat().st_mtime_ns for path in (whole / "_build").rglob("*") if path.suffix in (".html", ".ipynb")}
    done = checkout.reproduce(whole)
    assert done.returncode == 0 and "Nothing to do" in done.stdout
    assert before == {path: path.stat().st_mtime_ns for path in before}


ALL = {"train digits-cnn-standard", "train digits-cnn-gfa-first-lam0.5"}
GFA = {"train digits-cnn-gfa-first-lam0.5", "attack digits-cnn-gfa-first-lam0.5"}
ATTACKS = {name.replace("train", "attack") for name in ALL}


@pytest.mark.parametrize(
    ("file", "jobs"),
    [
        ("src/deepdefense/gfa.py", ALL | ATTACKS | {"page 01_theory", "site"}),
        ("src/deepdefense/objectives/gfa.py", GFA | {"page 01_theory", "site"}),
        ("src/deepdefense/objectives/standard.py", (ALL | ATTACKS) - GFA | {"page 01_theory", "site"}),
        ("src/deepdefense/attacks/gradient.py", ATTACKS),  # the page does not show them
        ("src/replication/chapters/train.py", {"page 01_theory", "site"}),
        ("src/deepdefense/geometry.py", ALL | ATTACKS | {"page 01_theory", "page 02_plain", "site"}),
        ("src/replication/claims/quantities.py", {"site"}),
        ("requirements.lock", ALL | ATTACKS | {"page 01_theory", "page 02_plain", "site"}),
        ("book/index.md", {"site"}),
        ("book/02_plain.ipynb", {"page 02_plain", "site"}),
    ],
)  # fmt: skip
def test_a_change_reruns_what_depends_on_it_and_nothing_else(whole, file, jobs):
    path = whole / file
    before = path.read_bytes()
    edited = before.replace(b"print(", b"print(0, ") if path.suffix == ".ipynb" else before + b"\n# changed\n"
    try:
        path.write_bytes(edited)
        assert checkout.planned(whole) == jobs
    finally:
        path.write_bytes(before)


def test_the_same_content_again_is_no_change(whole):
    """The files that were changed and changed back have new times."""
    assert checkout.planned(whole) == set()


def test_changed_parameters_make_another_run(whole):
    path = whole / "workflow" / "grids" / "smoke.csv"
    before = path.read_text()
    try:
        path.write_text(before.replace("gfa-first,,", "gfa-first,0.25,"))
        planned = checkout.planned(whole)
    finally:
        path.write_text(before)
    assert planned == {name.replace("lam0.5", "lam0.25") for name in GFA} | {"page 01_theory", "site"}


def test_damaged_files_of_finished_jobs_are_seen_by_the_plan_and_made_again(whole):
    before = checkout.results(whole)
    (defended,) = (whole / "kept" / "runs").glob("digits-cnn-gfa-first-*")
    (plain,) = (whole / "kept" / "runs").glob("digits-cnn-standard-*")
    (weights,) = defended.glob("last-*.safetensors")
    (table,) = plain.glob("report-*/report.parquet")
    page = whole / "_build" / "reproduce-smoke" / "book" / "02_plain.ipynb"
    kept = {path: path.read_bytes() for path in (weights, table, page)}
    weights.write_bytes(kept[weights][:5000] + bytes([kept[weights][5000] ^ 1]) + kept[weights][5001:])
    for path in (table, page):
        path.write_bytes(kept[path][:-20])
    attacks = {"attack digits-cnn-gfa-first-lam0.5", "attack digits-cnn-standard"}
    assert checkout.planned(whole) == {"train digits-cnn-gfa-first-lam0.5", *attacks, "page 01_theory", "page 02_plain", "site"}
    assert page.read_bytes() == kept[page][:-20], "a plan changes nothing"
    done = checkout.reproduce(whole, "attacked")  # what is damaged is made again whatever the target
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{weights.name} is damaged: it does not match its sha256" in done.stdout and "Parquet magic bytes" in done.stdout
    assert checkout.results(whole) == before
    for path in (weights, table):
        (aside,) = (whole / "kept").rglob(f"{path.name}.damaged")
        assert len(aside.read_bytes()) in (len(kept[path]), len(kept[path]) - 20)


def test_changed_code_trains_anew(whole):
    """The last of these tests: it leaves another training behind."""
    (folder,) = (whole / "kept" / "runs").glob("digits-cnn-gfa-first-*")
    before = files.read_json(folder / "run.json")
    path = whole / "src" / "deepdefense" / "objectives" / "gfa.py"
    changed = path.read_text().replace("return terms.loss, ", "return 0.5 * terms.loss, ", 1)
    path.write_text(changed)
    done = checkout.reproduce(whole, "trained")
    assert done.returncode == 0 and "[1/1] train digits-cnn-gfa-first" in done.stdout, done.stdout + done.stderr
    after = files.read_json(folder / "run.json")
    assert after["code"] != before["code"] and after["config"] == before["config"]
    assert after["checkpoints"]["last"]["sha256"] != before["checkpoints"]["last"]["sha256"], "the old weights were kept"

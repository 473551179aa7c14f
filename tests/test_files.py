"""Records on disk: written whole or not at all, refused when not plain JSON, read back, counted."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from deepdefense.evaluation import report
from deepdefense.storage import files, provenance
from replication.records import load_records

FULL_DISK = """
import resource, sys
from deepdefense.storage import files
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
for path in sys.argv[1:]:
    try:
        files.write_json(path, {"text": "x" * 5000})
    except files.ResultsError as error:
        print("refused:", error)
"""


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path):
    old, new = tmp_path / "old" / "run.json", tmp_path / "new" / "run.json"
    files.write_json(old, {"kept": True})
    done = subprocess.run([sys.executable, "-c", FULL_DISK, old, new], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    for path, line in zip((old, new), done.stdout.splitlines(), strict=True):
        assert line.startswith(f"refused: could not write {path}: File too large")
    assert files.read_json(old) == {"kept": True}
    assert os.listdir(old.parent) == ["run.json"] and os.listdir(new.parent) == []


FOREVER = """
import sys
from deepdefense.storage import files
for number in range(10**9):
    files.write_json(sys.argv[1], {"number": number, "text": "x" * 200_000})
"""


@pytest.mark.slow
def test_readers_see_whole_files_also_after_a_kill(tmp_path):
    path = tmp_path / "run.json"
    process = subprocess.Popen([sys.executable, "-c", FOREVER, str(path)])
    try:
        seen, deadline = set(), time.monotonic() + 60
        while len(seen) < 20 and time.monotonic() < deadline:
            if path.exists():
                seen.add(files.read_json(path)["number"])
            time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert len(seen) >= 20 and files.read_json(path)["number"] >= max(seen)


@pytest.mark.parametrize("value", [math.nan, math.inf, object()])
def test_what_is_not_json_is_refused_and_the_old_file_stays(tmp_path, value):
    path = files.write_json(tmp_path / "a.json", {"fine": 1})
    with pytest.raises((ValueError, TypeError)):
        files.write_json(path, {"history": [{"loss": value}]})
    assert files.read_json(path) == {"fine": 1} and os.listdir(tmp_path) == ["a.json"]


def test_an_interruption_leaves_nothing(tmp_path, monkeypatch):
    path = files.write_json(tmp_path / "a.json", {"fine": 1})

    def interrupted(_descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        files.write_json(path, {"new": 1})
    assert files.read_json(path) == {"fine": 1} and os.listdir(tmp_path) == ["a.json"]


def test_json_is_readable_and_round_trips(tmp_path):
    record = {"name": "λ = 0.1", "list": [1, 2.5, None, True], "nested": {"a": {}}}
    path = files.write_json(tmp_path / "deep" / "er" / "a.json", record)
    assert files.read_json(path) == record and path.read_text().count("\n") > 5
    assert os.stat(path).st_mode & 0o444 == 0o444, "others may read it"


@pytest.mark.parametrize("content", [None, "", "{", '{"a": 1', "\xff", "[1]", "3"])
def test_what_is_no_whole_record_is_named(tmp_path, content):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content.encode("latin1"))
    with pytest.raises(files.ResultsError) as error:
        files.read_json(path)
    assert str(path) in str(error.value)
    if content is not None:
        with pytest.raises(files.ResultsError):
            load_records(tmp_path)


def test_records_are_found_below_a_folder_by_kind(tmp_path):
    for path, kind in (("b.json", "training"), ("a/c.json", "attacks"), ("a/b.json", "training")):
        files.write_json(tmp_path / path, {"kind": kind})
    (tmp_path / "notes.txt").write_text("no record")
    assert [r["path"] for r in load_records(tmp_path)] == ["a/b.json", "a/c.json", "b.json"]
    assert [r["path"] for r in load_records(tmp_path, "training")] == ["a/b.json", "b.json"]
    with pytest.raises(files.ResultsError, match="nothing is not a folder"):
        load_records(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (0, 10, 0.0, 3.8416 / 13.8416),  # none of n: z² / (n + z²)
        (10, 10, 10 / 13.8416, 1.0),
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, table I, method 3
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (0, 0, 0.0, 1.0),
    ],
)
def test_wilson_intervals(successes, n, low, high):
    assert report.wilson(successes, n) == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize(("successes", "n"), [(3, 17), (250, 1000), (9990, 10000)])
def test_the_ends_of_a_wilson_interval_solve_its_equation(successes, n):
    """Wilson's ends are the p for which (p̂ − p)² = z² p (1 − p) / n."""
    for z in (1.0, 1.96, 2.576):
        for p in report.wilson(successes, n, z):
            assert (successes / n - p) ** 2 == pytest.approx(z**2 * p * (1 - p) / n, rel=1e-9)


def test_the_environment_is_what_json_can_hold_and_names_the_versions():
    import torch

    environment = json.loads(json.dumps(provenance.environment()))
    assert torch.__version__.startswith(environment["packages"]["torch"]) and environment["threads"] == torch.get_num_threads()
    assert environment["packages"]["torchattacks"] == "3.5.1" and environment["device"].startswith("cpu")


def test_results_that_a_run_leaves_make_no_later_run_one_of_other_code(tmp_path):
    def git(*arguments):
        subprocess.run(
            ["git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x@x", *arguments], check=True, capture_output=True
        )

    kept, code = tmp_path / "data" / "results" / "paper" / "grid.json", tmp_path / "src" / "a.py"
    for path in (kept, code, tmp_path / "data" / "README.md"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("1")
    assert provenance.commit(tmp_path) is None, "no checkout"
    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "x")
    name = provenance.commit(tmp_path)
    assert re.fullmatch("[0-9a-f]{12}", name)
    kept.write_text("2")
    (tmp_path / "data" / "results" / "new.json").write_text("untracked")
    (tmp_path / "notes").write_text("untracked")
    assert provenance.commit(tmp_path) == name
    (tmp_path / "data" / "README.md").write_text("2")
    assert provenance.commit(tmp_path) == f"{name}-dirty"
    git("checkout", "data/README.md")
    code.write_text("2")
    assert provenance.commit(tmp_path) == provenance.commit(tmp_path / "src") == f"{name}-dirty"

"""workflow/train_grid.py, as typed: every run of a grid has its record; what is there is not repeated; a failed run stops no other."""

import os
import signal
import subprocess
import sys
import time

from deepdefense.storage import files, paths
from replication.records import load_records

GRID = """data,objective,lam,epochs,train_size
digits,standard,,1,100
digits,gfa-first,0.1,1,5000
digits,gfa-first,0.1,1,100
"""


def command(tmp_path) -> list[str]:
    script = [sys.executable, str(paths.root() / "workflow" / "train_grid.py"), str(tmp_path / "tiny.csv"), "--profile", "smoke"]
    return [*script, "--cores", "1", "--out", str(tmp_path / "kept")]


def search(tmp_path):
    environment = os.environ | {"DEEPDEFENSE_DATA": str(tmp_path / "data")}
    return subprocess.run(command(tmp_path), capture_output=True, text=True, timeout=300, env=environment)


def test_every_run_has_its_record_and_a_failed_one_is_named(tmp_path):
    (tmp_path / "tiny.csv").write_text(GRID)
    done = search(tmp_path)
    assert done.returncode == 1 and "train_size must be at most 1287" in done.stdout, done.stdout + done.stderr
    assert "1 runs failed:" in done.stdout and "3 runs, 3 of them to do" in done.stdout
    records = load_records(tmp_path / "kept", "training")
    assert sorted(record["config"]["objective"] for record in records) == ["gfa-first", "standard"]
    assert all(record["data"]["train"] == 100 and record["checkpoints"]["last"] is None for record in records)
    assert not list((tmp_path / "data" / "runs" / "unfinished").iterdir())
    (tmp_path / "tiny.csv").write_text(GRID.replace("digits,gfa-first,0.1,1,5000\n", ""))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "kept").iterdir()}
    again = search(tmp_path)
    assert again.returncode == 0 and "2 runs, 0 of them to do" in again.stdout
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "kept").iterdir()}


def test_a_bad_grid_is_refused_before_any_work(tmp_path):
    (tmp_path / "tiny.csv").write_text("objective\nmagic\n")
    done = search(tmp_path)
    assert done.returncode == 2 and "tiny.csv, line 2: objective must be one of" in done.stderr
    assert not (tmp_path / "kept").exists()


def test_a_killed_run_goes_on_from_its_last_whole_epoch(tmp_path):
    (tmp_path / "tiny.csv").write_text("data,objective,epochs\ndigits,standard,40\n")
    environment = os.environ | {"DEEPDEFENSE_DATA": str(tmp_path / "data")}
    going = subprocess.Popen(command(tmp_path), stdout=subprocess.DEVNULL, env=environment, start_new_session=True)
    deadline = time.time() + 120
    while not list(tmp_path.glob("data/runs/unfinished/*/state.json")):
        assert going.poll() is None and time.time() < deadline
        time.sleep(0.01)
    os.killpg(going.pid, signal.SIGKILL)
    going.wait()
    (state,) = tmp_path.glob("data/runs/unfinished/*/state.json")
    begun = files.read_json(state)["history"]
    again = search(tmp_path)
    assert again.returncode == 0, again.stdout + again.stderr
    (record,) = load_records(tmp_path / "kept", "training")
    assert len(record["resumed"]) == 1 and len(record["history"]) == 40
    assert 0 < len(begun) < 40 and record["history"][: len(begun)] == begun

"""workflow/train_grid.py, as typed: every run of a grid has its record; what is there is not repeated; a failed run stops no other."""

import subprocess
import sys

from deepdefense.storage import paths
from replication.records import load_records

GRID = """data,objective,lam,epochs,train_size
digits,standard,,1,100
digits,gfa-first,0.1,1,5000
digits,gfa-first,0.1,1,100
"""


def search(tmp_path, *options):
    command = [sys.executable, str(paths.root() / "workflow" / "train_grid.py"), str(tmp_path / "tiny.csv"), "--profile", "smoke"]
    command += ["--cores", "1", "--out", str(tmp_path / "kept"), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_every_run_has_its_record_and_a_failed_one_is_named(tmp_path):
    (tmp_path / "tiny.csv").write_text(GRID)
    done = search(tmp_path)
    assert done.returncode == 1 and "train_size must be at most 1287" in done.stdout, done.stdout + done.stderr
    assert "1 runs failed:" in done.stdout and "3 runs, 3 of them to do" in done.stdout
    records = load_records(tmp_path / "kept", "training")
    assert sorted(record["config"]["objective"] for record in records) == ["gfa-first", "standard"]
    assert all(record["data"]["train"] == 100 and record["checkpoints"]["last"] is None for record in records)
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

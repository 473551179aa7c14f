"""The smoke grid through a real SLURM of one node gives the files that the same grid gives without it."""

import os
import subprocess
from pathlib import Path

import checkout
import pytest

NODE = Path(__file__).with_name("slurm_node.sh")


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """The variables with which jobs reach a SLURM on this machine; skipped, with the reason, where it cannot be started."""
    folder = tmp_path_factory.mktemp("slurm")
    started = subprocess.run([NODE, "start", folder], capture_output=True, text=True, timeout=120)
    if started.returncode:
        pytest.skip(f"no SLURM here: {started.stderr.strip()}")
    yield {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run([NODE, "stop", folder], capture_output=True, timeout=60)


def submitted(variables: dict) -> list[str]:
    """States of all jobs that SLURM has seen."""
    words = ["squeue", "--states=all", "--noheader", "--format=%T"]
    return subprocess.run(words, env=os.environ | variables, capture_output=True, text=True, check=True).stdout.split()


def test_the_grid_through_sbatch_gives_the_same_files(slurm, tmp_path):
    here, there = checkout.make(tmp_path / "here"), checkout.make(tmp_path / "there")
    quick = ["--seconds-between-status-checks", "1", "--slurm-init-seconds-before-status-checks", "1", "--latency-wait", "5"]
    # squeue, because this SLURM keeps no accounts of finished jobs; less memory than a cluster's node has
    quick += ["--slurm-status-command", "squeue", "--default-resources", "mem_mb=2000"]
    done = checkout.reproduce(there, "--cluster", "slurm", "attacked", "--", *quick, **slurm)
    assert done.returncode == 0, done.stdout + done.stderr
    assert submitted(slurm) == ["COMPLETED"] * 4, "two trainings and two attacks"
    done = checkout.reproduce(here, "attacked")
    assert done.returncode == 0, done.stdout + done.stderr
    made, expected = checkout.results(there), checkout.results(here)
    assert len([name for name in expected if name.endswith((".parquet", "run.json"))]) == 4
    assert made == expected


def test_a_job_that_fails_on_the_cluster_is_told_with_its_reason(slurm, tmp_path):
    root = checkout.make(tmp_path, "objective,train_size\nstandard,100000\n")
    quick = ["--seconds-between-status-checks", "1", "--slurm-init-seconds-before-status-checks", "1"]
    quick += ["--slurm-status-command", "squeue", "--default-resources", "mem_mb=2000"]
    done = checkout.reproduce(root, "--cluster", "slurm", "trained", "--", *quick, **slurm)
    assert done.returncode == 1
    assert "train_size must be at most 1287 for digits; got 100000" in done.stderr

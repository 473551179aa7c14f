"""Freed memory stays with the process, so that the next step need not fault it in again."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, torch
from deepdefense.training import allocator
kept = allocator.keep_for_reuse() if sys.argv[1] == "keep" else None
def step():
    maps = [torch.zeros(2**20) + i for i in range(6)]  # 4 MiB each
for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(what):
    done = subprocess.run([sys.executable, "-c", PROGRAM, what], capture_output=True, text=True, check=True, timeout=120)
    kept, count = done.stdout.split()
    return kept, int(count)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told anything")
def test_pages_are_not_faulted_in_anew():
    assert faults("keep")[0] == "True"
    assert faults("keep")[1] < 0.2 * faults("leave")[1]


def test_elsewhere_nothing_happens(monkeypatch):
    from deepdefense.training import allocator

    monkeypatch.setattr(sys, "platform", "darwin")
    assert allocator.keep_for_reuse() is False
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: object())
    assert allocator.keep_for_reuse() is False

"""Freed memory stays with the process, so that the next step need not fault it in again."""

import ctypes
import os
import platform
import subprocess
import sys

import pytest

# What torch's own steps meet depends on where the heap's end happens to lie, and some kernels count no page faults. So glibc is also asked
# what it holds free after blocks that nothing else lies between.
PROGRAM = """
import ctypes, resource, sys, torch
from deepdefense.training import allocator
kept = allocator.keep_for_reuse() if sys.argv[1] == "keep" else None
def step():
    maps = [torch.zeros(2**20) + i for i in range(6)]  # 4 MiB each
for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
class Held(ctypes.Structure):
    _fields_ = [(f"field{i}", ctypes.c_size_t) for i in range(8)] + [("free", ctypes.c_size_t), ("top", ctypes.c_size_t)]
libc = ctypes.CDLL(None)
libc.mallinfo2.restype, libc.malloc.restype = Held, ctypes.c_void_p
for _ in range(3):
    for block in [libc.malloc(31 * 2**20) for _ in range(6)]:
        libc.free(ctypes.c_void_p(block))
print(kept, libc.mallinfo2().free, faults)
"""

needs_mallinfo2 = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or not hasattr(ctypes.CDLL(None), "mallinfo2"),
    reason="only glibc is told anything, and it says what it holds from 2.33 on",
)


def run(what):
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_TUNABLES"))}  # no user's settings
    done = subprocess.run([sys.executable, "-c", PROGRAM, what], capture_output=True, text=True, check=True, timeout=120, env=own)
    kept, free, faults = done.stdout.split()
    return kept, int(free), int(faults)


@needs_mallinfo2
def test_what_is_freed_is_held_for_the_next_step():
    kept, free, faults = run("keep")
    assert kept == "True"
    assert free >= 6 * 31 * 2**20
    assert faults < 0.05 * 10 * 12 * 1024  # of the pages that ten steps write: twelve maps each
    assert run("leave")[1] < 6 * 31 * 2**20 / 2


def test_elsewhere_nothing_happens(monkeypatch):
    from deepdefense.training import allocator

    monkeypatch.setattr(sys, "platform", "darwin")
    assert allocator.keep_for_reuse() is False
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: object())
    assert allocator.keep_for_reuse() is False

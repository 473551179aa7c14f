"""Memory that a training step frees is kept for the next one, on a CPU under Linux.

Every step makes the same large maps anew. By default the C library hands them back to the system after use, which fills each page
with zeros before it gives it out again: on a small CNN thousands of page faults a step, and GFA, which makes more maps than plain
training, pays more of them (see the chapter on cost).
"""

import ctypes
import sys

# mallopt(3) of glibc: allocations of up to 32 MiB (the most it takes) come from the heap, whose top is not given back.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3


def keep_for_reuse() -> bool:
    """Tell glibc to keep what is freed, for this process from now on; False where there is no glibc, and nothing is changed."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False  # another C library, musl for one
    settings = {_M_MMAP_THRESHOLD: 32 * 2**20, _M_TRIM_THRESHOLD: 2**31 - 1, _M_TOP_PAD: 64 * 2**20}
    return all(mallopt(name, value) == 1 for name, value in settings.items())

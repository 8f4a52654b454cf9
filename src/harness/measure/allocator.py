"""Keep what a cell frees with its process: no page fault inside a timed slice because memory went back and forth.

Eager PyTorch on a CPU allocates its activations anew in every batch. With glibc's defaults some of them are given back
to the kernel and faulted in again each time. How many depends on how a process's heap happens to lie, and that stays
for its whole life: four identical DenseNet121 processes (batch 8) took 12 to 92 thousand page faults a batch, and 558
to 667 ms at equal user time (experiments/page_faults). No interval from one set of processes can know that.
"""

from __future__ import annotations

import ctypes
import sys

# mallopt(3)
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
TOP_PAD_BYTES = 64 * 2**20  # what the heap grows by at least


def keep_freed_memory() -> bool:
    """Tell glibc to return no memory to the kernel; return whether it was told. Elsewhere nothing happens."""
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # musl has no such thing
        return False
    told = [
        mallopt(_M_MMAP_MAX, 0),  # large blocks from the heap too, or each would be mapped and unmapped
        mallopt(_M_TRIM_THRESHOLD, -1),  # never shrink it
        mallopt(_M_TOP_PAD, TOP_PAD_BYTES),
    ]
    return all(told)

"""No orphans: a child process that ends with its parent, whatever way that one ends, and never of its Ctrl-C."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker

_PR_SET_PDEATHSIG = 1  # prctl(2)


def die_with_parent(parent: int) -> None:
    """Ask the kernel to kill this process when its parent dies; end at once if that has happened already.

    `parent` is the parent's process id as the parent knows it (it may be 1, in a container).
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


@contextmanager
def no_interrupts() -> Iterator[None]:
    """Start child processes inside: they are born with SIGINT blocked, for Ctrl-C is their parent's, who ends them.

    A child can't see to that itself: it would die with a traceback on the screen while it still imports its modules.
    A signal that comes meanwhile reaches the parent right after.
    """
    resource_tracker.ensure_running()  # multiprocessing starts it with the first child, and unblocks the signal then
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

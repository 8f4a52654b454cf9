"""Workers and builders of the code under test are forks of the tests' own process, where torch is imported already.

In use they are started anew (spawn), which costs 0.6 s of CPU time on ONNX Runtime and 5 s on PyTorch, some hundred
times in a run of the tests. What such a process does is the same; how it comes up is not. So tests of just that carry
the mark `spawned`, and sweeps that tests start as processes of their own start their workers as a user's do.
No fork where there is a GPU: CUDA does not survive one.

All forks are made by one thread that does nothing else. OpenMP keeps a pool of threads for each thread that has used
it; none of them is there after a fork, and a process whose first thread believes in such a pool waits for it forever.
That thread stays, for the kernel ends a worker with the thread that has started it (`system/processes.py`).
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.context import ForkContext, ForkProcess
from pathlib import Path

import pytest

# read when torch is imported. One thread, for the tests' processes are as many as the cores; the rest as in a worker
os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "KINETO_LOG_LEVEL": "99"}

FORKING = not Path("/dev/nvidiactl").exists()

_context_of = multiprocessing.get_context
_forking = False
_forker: ThreadPoolExecutor


def _new_forker() -> None:
    global _forker
    _forker = ThreadPoolExecutor(1, initializer=signal.pthread_sigmask, initargs=(signal.SIG_BLOCK, {signal.SIGINT}))


_new_forker()
os.register_at_fork(after_in_child=_new_forker)  # a fork has no thread but its first one


class _Fork(ForkProcess):
    def start(self) -> None:
        _forker.submit(super().start).result()


class _Forks(ForkContext):
    Process = _Fork


def _get_context(method: str | None = None):
    return _Forks() if _forking and method == "spawn" else _context_of(method)


def pytest_configure() -> None:
    multiprocessing.get_context = _get_context
    if FORKING:  # torch's profiler complains in any thread but the one that imports torch
        _forker.submit(importlib.import_module, "torch").result()


def pytest_unconfigure() -> None:
    multiprocessing.get_context = _context_of


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item):
    global _forking
    _forking = FORKING and item.get_closest_marker("spawned") is None
    try:
        return (yield)
    finally:
        _forking = False

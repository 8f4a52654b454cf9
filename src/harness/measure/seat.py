"""A device for a job: one of those that this host shows it, and nobody else's until the job has ended.

Slurm and Ray show a job its own GPU only (CUDA_VISIBLE_DEVICES); joblib and submitit_local show all of them, and
the job takes one that is free. That two are never timed at once on one device does not hang on this: see
`lock.py`, whose lock all launchers and all sweeps of this host share.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from harness.measure.lock import try_lock
from harness.system.machine import gpu

VISIBLE = "CUDA_VISIBLE_DEVICES"
SIMULATED = "HARNESS_SIMULATED_GPUS"  # a number: try a fleet out without one. Rows say so, and count for nothing
_POLL_S = 0.2


def visible_devices(device: str) -> tuple[str, ...]:
    """Return what this process may take, as CUDA_VISIBLE_DEVICES names it; ("cpu",) on a CPU."""
    simulated = int(os.environ.get(SIMULATED) or 0)
    if device == "cpu" and not simulated:
        return ("cpu",)
    shown = os.environ.get(VISIBLE)
    if shown is not None:
        return tuple(name.strip() for name in shown.split(",") if name.strip())
    return tuple(str(number) for number in range(simulated)) if simulated else _uuids()


@contextmanager
def seat(device: str) -> Iterator[None]:
    """Take one of the visible devices and show only that one to this process's children, as long as this is open."""
    names = visible_devices(device)
    if len(names) < 2:  # nothing to choose
        yield
        return
    before = os.environ.get(VISIBLE)
    with _free_one(names) as name:
        os.environ[VISIBLE] = name
        try:
            yield
        finally:
            if before is None:
                del os.environ[VISIBLE]
            else:
                os.environ[VISIBLE] = before


def device_id(device: str) -> str:
    """Return what the lock of this process's device is named by: the GPU's UUID, or "cpu"."""
    chip = gpu() if device == "cuda" else None
    return chip["uuid"] if chip else simulated_device() or device


def simulated_device() -> str:
    """Return the name of the simulated GPU that this process has, "" where nothing is simulated."""
    return f"simulated-gpu-{visible_devices('cpu')[0]}" if os.environ.get(SIMULATED) else ""


@contextmanager
def _free_one(names: Sequence[str]) -> Iterator[str]:
    """Wait until one of these devices is free and hold it. What was tried in vain is closed before the next try."""
    while True:
        for name in names:
            with try_lock(f"seat-{name}") as held:
                if held:
                    yield name
                    return
        time.sleep(_POLL_S)


def _uuids() -> tuple[str, ...]:
    import pynvml

    pynvml.nvmlInit()
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(number) for number in range(pynvml.nvmlDeviceGetCount())]
        found = [pynvml.nvmlDeviceGetUUID(handle) for handle in handles]
        return tuple(name.decode() if isinstance(name, bytes) else str(name) for name in found)
    finally:
        pynvml.nvmlShutdown()

"""Who may use the machine: one quartet is timed on a device at a time, and no build runs during any timing.

Slurm and Ray show a job its own GPU only (CUDA_VISIBLE_DEVICES); joblib and submitit_local show all of them, and the
job takes a free one (its seat) until it ends.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from harness.system.errors import UserError
from harness.system.locks import LIMIT_VARIABLE, Tell, limit_s, locked, try_lock, untold
from harness.system.machine import gpu


@contextmanager
def device_lock(device_id: str, tell: Tell = untold) -> Iterator[None]:
    """Time on a device (a GPU's UUID, or "cpu"): wait until no other quartet is timed on it and no build runs.

    Raises UserError, as the others do, where nobody lets go in time (`system/locks.py`).
    """
    with locked(device_id, tell), locked("quiet", tell, shared=True):
        yield


@contextmanager
def occupied(device_id: str, tell: Tell = untold) -> Iterator[None]:
    """Work on a device untimed, as a training does: wait until no quartet is timed there, keep others off."""
    with locked(device_id, tell):
        yield


@contextmanager
def building(tell: Tell = untold) -> Iterator[None]:
    """Export, build or try out: wait until nothing is timed on any device: this is heavy work for the host.

    Two sweeps never build at once either; one that builds in several processes holds this once for all of them.
    """
    with locked("quiet", tell):
        yield


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
    with _free_device(names) as name:
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
def _free_device(names: Sequence[str]) -> Iterator[str]:
    """Wait until one of these devices is free and hold it. What was tried in vain is closed before the next try."""
    longest_s = limit_s()
    deadline = time.monotonic() + longest_s
    while time.monotonic() < deadline:
        for name in names:
            with try_lock(f"seat-{name}") as held:
                if held:
                    yield name
                    return
        time.sleep(_POLL_S)
    raise UserError(f"waited {longest_s:g} s, and none of {len(names)} devices became free ({LIMIT_VARIABLE}).")


def _uuids() -> tuple[str, ...]:
    import pynvml

    pynvml.nvmlInit()
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(number) for number in range(pynvml.nvmlDeviceGetCount())]
        found = [pynvml.nvmlDeviceGetUUID(handle) for handle in handles]
        return tuple(name.decode() if isinstance(name, bytes) else str(name) for name in found)
    finally:
        pynvml.nvmlShutdown()

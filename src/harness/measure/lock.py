"""Who may use the machine: one quartet is timed on a device at a time, and no build runs during any timing.

The locks are in the temporary folder (HARNESS_LOCK_DIR: elsewhere, where each job has temporary files of its own), by
user, and are shared by all sweeps of that user on this machine. They are the operating system's (flock), so a dead
holder's lock is always released.

Slurm and Ray show a job its own GPU only (CUDA_VISIBLE_DEVICES); joblib and submitit_local show all of them, and the
job takes a free one (its seat) until it ends.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from harness.system.machine import gpu


@contextmanager
def device_lock(device_id: str) -> Iterator[None]:
    """Time on a device (a GPU's UUID, or "cpu"): wait until no other quartet is timed on it and no build runs."""
    with _locked(device_id, fcntl.LOCK_EX), _locked("quiet", fcntl.LOCK_SH):
        yield


@contextmanager
def occupied(device_id: str) -> Iterator[None]:
    """Work on a device untimed, as a training does: wait until no quartet is timed there, keep others off."""
    with _locked(device_id, fcntl.LOCK_EX):
        yield


@contextmanager
def building() -> Iterator[None]:
    """Export, build or try out: wait until nothing is timed on any device: this is heavy work for the host.

    Two sweeps never build at once either; one that builds in several processes holds this once for all of them.
    """
    with _locked("quiet", fcntl.LOCK_EX):
        yield


@contextmanager
def try_lock(name: str) -> Iterator[bool]:
    """Hold a lock if nobody else does; tell whether it is held."""
    descriptor = _open(name)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


@contextmanager
def _locked(name: str, kind: int) -> Iterator[None]:
    descriptor = _open(name)
    try:
        fcntl.flock(descriptor, kind)
        yield
    finally:
        os.close(descriptor)


def _open(name: str) -> int:
    safe = "".join(c if c.isalnum() else "-" for c in name)
    folder = Path(os.environ.get("HARNESS_LOCK_DIR") or tempfile.gettempdir())
    return os.open(folder / f"harness-{os.getuid()}-{safe}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


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

"""Who may use the machine: one quartet is timed on a device at a time, and no build runs during any timing.

The locks are in the temporary folder (HARNESS_LOCK_DIR: elsewhere, where each job has temporary files of its own), by
user, and are shared by all sweeps of that user on this machine. They are the operating system's (flock), so a dead
holder's lock is always released.

Slurm and Ray show a job its own GPU only (CUDA_VISIBLE_DEVICES); joblib and submitit_local show all of them, and the
job takes a free one (its seat) until it ends.
"""

from __future__ import annotations

import fcntl
import math
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.system.errors import UserError
from harness.system.machine import gpu

LIMIT_VARIABLE = "HARNESS_LOCK_WAIT_S"
LIMIT_S = 12 * 3600.0  # of waiting for one lock: a training may take a night
_TELL_EVERY_S = 5.0

Tell = Callable[[], None]  # called again and again while somebody waits


def _untold() -> None:
    """Tell nobody."""


@contextmanager
def device_lock(device_id: str, tell: Tell = _untold) -> Iterator[None]:
    """Time on a device (a GPU's UUID, or "cpu"): wait until no other quartet is timed on it and no build runs.

    Raises UserError, as the others do, where nobody lets go within `LIMIT_S`, or what HARNESS_LOCK_WAIT_S says.
    """
    with _locked(device_id, fcntl.LOCK_EX, tell), _locked("quiet", fcntl.LOCK_SH, tell):
        yield


@contextmanager
def occupied(device_id: str, tell: Tell = _untold) -> Iterator[None]:
    """Work on a device untimed, as a training does: wait until no quartet is timed there, keep others off."""
    with _locked(device_id, fcntl.LOCK_EX, tell):
        yield


@contextmanager
def building(tell: Tell = _untold) -> Iterator[None]:
    """Export, build or try out: wait until nothing is timed on any device: this is heavy work for the host.

    Two sweeps never build at once either; one that builds in several processes holds this once for all of them.
    """
    with _locked("quiet", fcntl.LOCK_EX, tell):
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


def check_folder() -> None:
    """Raise UserError unless locks can be made, and HARNESS_LOCK_WAIT_S is a number: before any work."""
    _limit_s()
    try:
        os.close(_open("quiet"))
    except OSError as error:
        raise UserError(
            f"can't write the locks in {_folder()}: {error.strerror}; set HARNESS_LOCK_DIR to a folder that all "
            "sweeps on this machine share."
        ) from error


@contextmanager
def _locked(name: str, kind: int, tell: Tell) -> Iterator[None]:
    descriptor = _open(name)
    try:
        _acquire(descriptor, kind, name, tell)
        yield
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, kind: int, name: str, tell: Tell) -> None:
    """Wait for a lock. A thread does, in the system's own queue: who asks now and then might never have its turn."""
    with suppress(BlockingIOError):
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        return
    acquired, copy = threading.Event(), os.dup(descriptor)  # the lock is of both: to be closed here while that waits

    def wait() -> None:
        with suppress(OSError):
            fcntl.flock(copy, kind)
            acquired.set()
        os.close(copy)  # one that was given up for lost is let go with it

    threading.Thread(target=wait, name="harness-lock", daemon=True).start()
    limit_s = _limit_s()
    deadline = time.monotonic() + limit_s
    while not acquired.wait(max(0.0, min(_TELL_EVERY_S, deadline - time.monotonic()))):
        if time.monotonic() >= deadline:
            raise UserError(
                f"waited {limit_s:g} s for a lock that another process holds: {_path(name)} ({LIMIT_VARIABLE} sets "
                "for how long)."
            )
        tell()


def _limit_s() -> float:
    given = os.environ.get(LIMIT_VARIABLE)
    try:
        limit_s = LIMIT_S if not given else float(given)
    except ValueError:
        limit_s = math.nan
    if not 0 < limit_s < threading.TIMEOUT_MAX:
        raise UserError(f"{LIMIT_VARIABLE}={given} is not a number of seconds above 0.")
    return limit_s


def _folder() -> Path:
    return Path(os.environ.get("HARNESS_LOCK_DIR") or tempfile.gettempdir())


def _path(name: str) -> Path:
    safe = "".join(c if c.isalnum() else "-" for c in name)
    return _folder() / f"harness-{os.getuid()}-{safe}.lock"


def _open(name: str) -> int:
    return os.open(_path(name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


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
    limit_s = _limit_s()
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        for name in names:
            with try_lock(f"seat-{name}") as held:
                if held:
                    yield name
                    return
        time.sleep(_POLL_S)
    raise UserError(f"waited {limit_s:g} s, and none of {len(names)} devices became free ({LIMIT_VARIABLE}).")


def _uuids() -> tuple[str, ...]:
    import pynvml

    pynvml.nvmlInit()
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(number) for number in range(pynvml.nvmlDeviceGetCount())]
        found = [pynvml.nvmlDeviceGetUUID(handle) for handle in handles]
        return tuple(name.decode() if isinstance(name, bytes) else str(name) for name in found)
    finally:
        pynvml.nvmlShutdown()

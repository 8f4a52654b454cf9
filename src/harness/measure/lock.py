"""Who may use the machine: one quartet is timed on a device at a time, and nobody builds while anybody is timed.

The locks lie among the temporary files (HARNESS_LOCK_DIR: elsewhere, where each job has temporary files of its own), by
user, and are shared by all sweeps of that user on this machine. They are the operating system's (flock), so a holder
that dies in whatever way lets go.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def device_lock(device_id: str) -> Iterator[None]:
    """Time on a device (a GPU's UUID, or "cpu"): wait for whoever is timed on it, and until nobody builds."""
    with _locked(device_id, fcntl.LOCK_EX), _locked("quiet", fcntl.LOCK_SH):
        yield


@contextmanager
def occupied(device_id: str) -> Iterator[None]:
    """Work on a device without being timed, as a training does: wait for whoever is timed there, keep others off."""
    with _locked(device_id, fcntl.LOCK_EX):
        yield


@contextmanager
def building() -> Iterator[None]:
    """Export, build or try out: wait until nothing is timed on any device, for this is heavy work for the host.

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

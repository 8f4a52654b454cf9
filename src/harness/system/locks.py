"""Locks between processes: the operating system's (flock), so a dead holder's lock is always released.

They are in the temporary folder (HARNESS_LOCK_DIR: elsewhere, where each job has temporary files of its own), by user,
and are shared by all sweeps of that user on this machine.
"""

from __future__ import annotations

import fcntl
import math
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.system.errors import UserError

LIMIT_VARIABLE = "HARNESS_LOCK_WAIT_S"
LIMIT_S = 12 * 3600.0  # of waiting for one lock: a training may take a night
_TELL_EVERY_S = 5.0

Tell = Callable[[], None]  # called again and again while somebody waits


def untold() -> None:
    """Tell nobody."""


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
    limit_s()
    try:
        os.close(_open("quiet"))
    except OSError as error:
        raise UserError(
            f"can't write the locks in {_folder()}: {error.strerror}; set HARNESS_LOCK_DIR to a folder that all "
            "sweeps on this machine share."
        ) from error


@contextmanager
def locked(name: str, tell: Tell = untold, shared: bool = False) -> Iterator[None]:
    """Hold a lock, alone or `shared` with others that share it; wait until that is possible, and `tell` meanwhile.

    Raises UserError where nobody lets go within `LIMIT_S`, or what HARNESS_LOCK_WAIT_S says.
    """
    descriptor = _open(name)
    try:
        _acquire(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, name, tell)
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
    longest_s = limit_s()
    deadline = time.monotonic() + longest_s
    while not acquired.wait(max(0.0, min(_TELL_EVERY_S, deadline - time.monotonic()))):
        if time.monotonic() >= deadline:
            raise UserError(
                f"waited {longest_s:g} s for a lock that another process holds: {_path(name)} ({LIMIT_VARIABLE} sets "
                "for how long)."
            )
        tell()


def limit_s() -> float:
    """Return for how many seconds one waits for a lock; raise UserError where the variable holds no such number."""
    given = os.environ.get(LIMIT_VARIABLE)
    try:
        longest_s = LIMIT_S if not given else float(given)
    except ValueError:
        longest_s = math.nan
    if not 0 < longest_s < threading.TIMEOUT_MAX:
        raise UserError(f"{LIMIT_VARIABLE}={given} is not a number of seconds above 0.")
    return longest_s


def _folder() -> Path:
    return Path(os.environ.get("HARNESS_LOCK_DIR") or tempfile.gettempdir())


def _path(name: str) -> Path:
    safe = "".join(c if c.isalnum() else "-" for c in name)
    return _folder() / f"harness-{os.getuid()}-{safe}.lock"


def _open(name: str) -> int:
    return os.open(_path(name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

"""Whether a sweep that the store shows as running still runs: a live sweep holds a lock or a lease.

For a process in this boot and PID namespace the kernel can tell. For all others: beside an embedded database a sweep
holds a file lock, which the operating system takes from the dead, in whatever container they were. In a server's store
it holds a lease, a tag with a time that it renews; its writer and its reader have different clocks, so it is long.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from harness.system.processes import is_running
from harness.tracking.store import Store, quietly, sqlite_path

if TYPE_CHECKING:
    from filelock import BaseFileLock
    from mlflow.entities import Run

PROCESS_TAG = "process"
LEASE_TAG = "lease_until_s"
FOLDER = ".running"
LEASE_S = 1800.0
RENEWED_EVERY_S = 300.0


@contextmanager
def living(store: Store, sweep_id: str) -> Iterator[None]:
    """Hold what shows that a sweep runs, as long as this process is inside."""
    place = _lock_file(store, sweep_id)
    with _lease(store, sweep_id) if place is None else _lock(place):
        yield


def is_alive(store: Store, run: Run) -> bool:
    """Return whether the process of a sweep that has not ended still runs; true where nobody can tell."""
    if run.info.status != "RUNNING":
        return False
    known = is_running(run.data.tags.get(PROCESS_TAG, ""))
    if known is not None:
        return known
    place = _lock_file(store, run.info.run_id)
    if place is not None:  # taken before anybody else could see the sweep: none means that it died at once
        return place.exists() and _is_held(place)
    lease = run.data.tags.get(LEASE_TAG, "")
    return not lease or time.time() < float(lease)


def forget_the_dead(store: Store) -> None:
    """Remove the locks of sweeps that no longer run, which a killed process leaves behind."""
    folder = _folder(store)
    for place in folder.glob("*.lock") if folder is not None else ():
        if not _is_held(place):
            place.unlink(missing_ok=True)


def _folder(store: Store) -> Path | None:
    database = sqlite_path(store.uri)
    return None if database is None else database.parent / FOLDER


def _lock_file(store: Store, sweep_id: str) -> Path | None:
    folder = _folder(store)
    return None if folder is None else folder / f"{sweep_id}.lock"


@contextmanager
def _lock(place: Path) -> Iterator[None]:
    place.parent.mkdir(exist_ok=True)
    with _file_lock(place):
        try:
            yield
        finally:
            place.unlink(missing_ok=True)


def _is_held(place: Path) -> bool:
    from filelock import Timeout

    try:
        with _file_lock(place):
            return False
    except Timeout:
        return True


def _file_lock(place: Path) -> BaseFileLock:
    from filelock import FileLock

    return FileLock(place, timeout=0)


@contextmanager
def _lease(store: Store, sweep_id: str) -> Iterator[None]:
    """Renew the sweep's lease in a thread that sleeps in between; a server may be unreachable for a while."""
    over = threading.Event()

    def renew() -> None:
        with suppress(Exception), quietly():
            store.client().set_tag(sweep_id, LEASE_TAG, f"{time.time() + LEASE_S:.0f}")

    def renew_until_over() -> None:
        while not over.wait(RENEWED_EVERY_S):
            renew()

    renew()
    threading.Thread(target=renew_until_over, daemon=True).start()
    try:
        yield
    finally:
        over.set()

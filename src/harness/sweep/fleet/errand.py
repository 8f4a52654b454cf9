"""One quartet in a process of another launcher than Hydra's basic one: on this machine or on another host.

The function that a launcher carries there holds plain data only; all else is opened again on arrival.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.tracking import Store
from harness.tracking.client import quietly
from harness.tracking.store import check_there

if TYPE_CHECKING:
    from harness.sweep.job import PlannedJob


@dataclass(frozen=True)
class Errand:
    """What travels to the processes of a launcher: the quartets to run, and where their rows go."""

    jobs: tuple[PlannedJob, ...]
    sweep_id: str
    store: Store
    folder: str  # that relative paths begin at


def errand_of(jobs: Sequence[PlannedJob], sweep_id: str, store: Store) -> Callable[[Any], None]:
    """Return the function that a launcher pickles; called for its n-th job, it runs the n-th quartet."""
    errand = Errand(tuple(jobs), sweep_id, store, os.getcwd())

    def run(composed: Any) -> None:  # a closure: it is pickled whole, and does not hang on how this module is found
        from hydra.core.hydra_config import HydraConfig

        run_errand(errand, int(HydraConfig.get().job.num))

    return run


def run_errand(errand: Errand, number: int) -> None:
    """Run one quartet here, on a device of its own, unless its sweep has ended by now."""
    from harness.measure.progress import Silent
    from harness.measure.seat import seat
    from harness.sweep.job import run_job
    from harness.system.quiet import quiet
    from harness.tracking.outbox import deliver, outbox_of

    quiet()
    multiprocessing.set_start_method("spawn", force=True)  # joblib's processes have one that their children lack
    with suppress(OSError):  # a host without that folder: then paths of its own, such as a cache, begin where it is
        os.chdir(errand.folder)
    if _ended(errand.store, errand.sweep_id):
        return  # whoever waited for this row has gone: the queue of a cluster outlives the sweep's own process
    job = errand.jobs[number]
    with _terminated_as_interrupted(), seat(job.plan.device):
        run_job(job, errand.sweep_id, errand.store, Silent())
    deliver(outbox_of(errand.store, job.plan.config.tracking.root))  # what was measured while the store was away


def _ended(store: Store, sweep_id: str) -> bool:
    """Return whether a sweep has ended; of a store that is away nobody knows, and the row can wait for it."""
    try:
        check_there(store.uri)
        with quietly():
            return bool(store.client().get_run(sweep_id).info.status != "RUNNING")
    except Exception:  # whatever a store raises
        return False


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM (a scheduler that cancels) end the quartet in order: KILLED, no process left."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

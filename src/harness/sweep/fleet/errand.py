"""One quartet in a process of another launcher than Hydra's basic one: on this machine or on another host.

The function that a launcher carries there holds plain data only; all else is opened again on arrival.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from harness.sweep.context import SweepContext
from harness.tracking import Store
from harness.tracking.client import quietly
from harness.tracking.store import check_there


@dataclass(frozen=True)
class Errand:
    """What travels with every job of a sweep."""

    context: SweepContext
    store: Store
    kept: frozenset[str]  # quartet keys that an earlier sweep has measured
    chip: tuple[tuple[str, Any], ...] | None  # of the host that counted them; None: a CPU
    folder: str  # that relative paths begin at


def fleet_job(
    context: SweepContext, store: Store, kept: Collection[str], chip: dict[str, Any] | None
) -> Callable[[Any], None]:
    """Return the function that a launcher pickles and calls with each composed config."""
    errand = Errand(context, store, frozenset(kept), tuple(chip.items()) if chip else None, os.getcwd())

    def job(composed: Any) -> None:  # a closure: it is pickled whole, and does not hang on how this module is found
        run_errand(composed, errand)

    return job


def run_errand(composed: Any, errand: Errand) -> None:
    """Run one quartet here, on a device of its own, unless it is kept or its sweep has ended by now."""
    from harness.measure.progress import Silent
    from harness.measure.seat import seat
    from harness.sweep.job import plan_job, quartet_key, run_job
    from harness.system.quiet import quiet
    from harness.tracking.outbox import deliver, outbox_of

    quiet()
    multiprocessing.set_start_method("spawn", force=True)  # joblib's processes have one that their children lack
    context = errand.context
    with suppress(OSError):  # a host without that folder: then paths of its own, such as a cache, begin where it is
        os.chdir(errand.folder)
    plan = plan_job(composed, context)
    if quartet_key(plan, dict(errand.chip) if errand.chip else None) in errand.kept:
        return
    if _ended(errand.store, context.sweep_id):
        return  # whoever waited for this row has gone: the queue of a cluster outlives the sweep's own process
    with _terminated_as_interrupted(), seat(context.device):
        run_job(plan, composed, context, errand.store, Silent())
    deliver(outbox_of(errand.store, plan.config.tracking.root))  # what this host measured while the store was away


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

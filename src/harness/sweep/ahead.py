"""Build ahead: before the first quartet is timed, prepare the cells of all in a small pool, so that timing never waits.

The results are in the cache only, where each quartet's job fetches them. A failure here is ignored: the quartet's job
meets it again and fails with the reason.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import suppress
from dataclasses import replace
from multiprocessing.queues import Queue
from queue import Empty

from harness.measure.cell import QuartetPlan
from harness.measure.lock import building
from harness.measure.progress import Progress, Silent
from harness.system.library_internals import kill_pool
from harness.system.machine import usable_cores
from harness.system.processes import die_with_parent, no_interrupts

MOST_JOBS = 8
MOST_CELLS = 4  # of a quartet
_LOOK_S = 0.25
CORES_PER_JOB = 4  # an export or a compilation keeps several cores busy


def build_ahead(
    quartets: Sequence[QuartetPlan],
    progress: Progress,
    sweep: str = "",
    at_least: int = 1,
) -> None:
    """Prepare quartets in parallel processes; return at once if there is room for one only: jobs then build themselves.

    Args:
        quartets: to be prepared. More processes than quartets share some, each beginning with another cell.
        progress: shows how many are done.
        sweep: the id of the sweep on whose behalf the cache is filled.
        at_least: processes, unless `engine.build_jobs` gives their number.

    """
    usual = max(default_jobs(), at_least)
    jobs = min(quartets[0].config.engine.build_jobs or usual, len(quartets) * MOST_CELLS) if quartets else 0
    if jobs < 2:
        return
    count = len(quartets)
    turns = [(quartets[n % count], n % count + n // count) for n in range(max(jobs, count))]
    progress.stage("wait until nothing is timed")
    context = multiprocessing.get_context("spawn")
    with building(lambda: progress.stage("wait until nothing is timed")):
        messages = context.Queue()
        pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_start, initargs=(os.getpid(), jobs, messages))
        try:
            with no_interrupts():
                work = [pool.submit(_prepare, quartet, turn, sweep) for quartet, turn in turns]
            _follow(work, messages, progress)
        except BaseException:
            kill_pool(pool)  # their builds end with them
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _follow(work: Sequence[Future[None]], messages: Queue[str], progress: Progress) -> None:
    """Show how many are done and the latest stage of the rest, until all are done."""
    latest = ""
    while True:
        with suppress(Empty):
            latest = messages.get(timeout=_LOOK_S)
        done = sum(future.done() for future in work)
        progress.stage(f"build ahead, {done} of {len(work)} done" + (f"; {latest}" if done < len(work) else ""))
        if done == len(work):
            return


def default_jobs() -> int:
    """Return how many quartets are prepared at once on this machine."""
    return max(1, min(MOST_JOBS, usable_cores() // CORES_PER_JOB))


_messages: Queue[str] | None = None  # in a process of the pool: where it reports its stages


class _Reporting(Silent):
    """Pass each stage on to the process that started the pool."""

    def stage(self, name: str, cell: str = "") -> None:
        if _messages is not None:
            _messages.put(f"{name} {cell}".strip())


def _start(parent: int, jobs: int, messages: Queue[str]) -> None:
    global _messages
    die_with_parent(parent)
    _messages = messages
    share = str(max(1, usable_cores() // jobs))
    # Inductor compiles in a process for each core: all jobs together should use no more processes than cores
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", share)
    # and run their networks with no more threads than cores, which would wait for each other while they spin
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, share)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _prepare(plan: QuartetPlan, turn: int, sweep: str) -> None:
    """Put all that a quartet needs into the cache.

    Quartets share cells, and the second process to need a build waits for it: so each begins with another cell.
    """
    from harness.sweep.build import build_quartet
    from harness.sweep.scenarios import scenario_of
    from harness.system.cache import open_cache
    from harness.system.errors import CellError, UserError

    try:
        first = turn % len(plan.cells)
        plan = replace(plan, cells=plan.cells[first:] + plan.cells[:first])
        cache = open_cache(plan.config.cache, sweep)
        for requested, build in scenario_of(plan.config).builds(plan):
            build_quartet(requested, cache, _Reporting(), build, references=False)
    except (CellError, UserError):
        return

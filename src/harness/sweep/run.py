"""The order of a sweep: compose, check and plan, keep, build, measure job by job, log, conclude.

1. compose every job once                      `command_line.py`
2. check and plan every quartet once           `refusals.py`, `plan/`
3. keep what an unfinished sweep has           `resume.py`
4. build the distinct cells ahead, in a pool   `ahead.py`
5. to 7. measure, analyse, log each quartet    `job.py`, here or through a launcher: `fleet/`
8. conclude: the family's verdicts, the report, the table, the status
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from harness.report.table import print_table
from harness.sweep.ahead import build_ahead
from harness.sweep.command_line import compose_sweep
from harness.sweep.family import adjust
from harness.sweep.fleet.errand import errand_of
from harness.sweep.fleet.launcher import Launcher, check_reach, choose_launcher, launch
from harness.sweep.fleet.watch import watching
from harness.sweep.job import PlannedJob, quartet_key, run_job
from harness.sweep.names import sweep_label
from harness.sweep.refusals import Resolved, check_sweep
from harness.sweep.resume import (
    GRID_TAG,
    PROCESS_TAG,
    Kept,
    adopt,
    continuation_tags,
    end_the_dead,
    find_kept,
    grid_key,
)
from harness.sweep.terminal import TerminalProgress
from harness.system.identity import this_process
from harness.system.interruption import Interruption
from harness.system.machine import gpu
from harness.system.secrets import redacted
from harness.tracking import Store, end_killed, exclusive, finish_sweep, install_views, open_store, start_sweep
from harness.tracking.client import as_user_error, quietly
from harness.tracking.load import load
from harness.tracking.outbox import Outbox, Waiting, deliver, outbox_of, reason_of
from harness.tracking.store import resolve_uri

_PLAIN: dict[str, Any] = {"highlight": False, "soft_wrap": True, "markup": False}  # a user's names hold no markup


@dataclass(frozen=True)
class _Open:
    """A sweep whose parent run has begun."""

    store: Store
    sweep_id: str
    kept: Kept
    outbox: Outbox


def run_sweep(overrides: Sequence[str], command: str, interruption: Interruption) -> int:
    """Run the sweep that a command line's overrides mean; return its exit status.

    Each job is composed once and planned once; whatever can't be done ends before anything is begun, as a UserError.
    """
    composed = compose_sweep(overrides)
    resolved = check_sweep(composed.jobs)
    jobs = [PlannedJob(plan, job.text) for plan, job in zip(resolved.plans, composed.jobs, strict=True)]
    launcher = choose_launcher(overrides, resolved.device, composed.hydra)
    console = Console() if sys.stdout.isatty() else Console(width=140)
    opened, todo = _keep(jobs, resolved, launcher, command)
    _announce(console, resolved, jobs, opened.kept)
    with TerminalProgress(console, len(jobs)) as progress:

        def count() -> None:
            done = f"{progress.good} of {len(jobs)} quartets are done{' and kept' if progress.good else ''}."
            interruption.told = f"{done} The same command goes on: {redacted(command)}"

        count()
        with _killed_if_interrupted(opened):
            progress.begin("the sweep")
            if launcher.one_machine:
                build_ahead([job.plan for job in todo], progress, opened.sweep_id, launcher.at_once)
            if launcher.here:
                _run_here(jobs, todo, opened, console, progress, count)
            else:
                _run_elsewhere(todo, opened, launcher, overrides, console, progress, count, interruption)
    return _conclude(console, opened, resolved)


def _keep(
    jobs: Sequence[PlannedJob], resolved: Resolved, launcher: Launcher, command: str
) -> tuple[_Open, list[PlannedJob]]:
    """Begin the sweep's parent run, with what an unfinished sweep of the same grid has; return what is left to do."""
    config = jobs[0].plan.config
    check_reach(launcher, resolve_uri(config.tracking.uri, config.tracking.root)[0])
    store = open_store(config.tracking)
    install_views(store)
    chip = gpu() if resolved.device == "cuda" else None
    keys = [quartet_key(job.plan, chip) for job in jobs]
    outbox = outbox_of(store, config.tracking.root)
    name = config.sweep_name or sweep_label(resolved.plans)
    engines = [resolved.engines[job.plan.config.engine.name] for job in jobs]
    tags = {"engine": ", ".join(dict.fromkeys(engines)), "command": redacted(command)}
    tags |= {PROCESS_TAG: this_process(), GRID_TAG: grid_key(keys)}
    with as_user_error(store.uri, "begin a sweep in"), exclusive(store):  # or two could adopt the same quartets
        deliver(outbox)
        end_the_dead(store)
        kept = find_kept(store, keys, config.resume)
        sweep_id = start_sweep(store, name, tags | continuation_tags(kept), {"jobs": len(jobs)})
        adopt(store, kept, sweep_id)
    todo = [job for job, key in zip(jobs, keys, strict=True) if key not in kept.finished]
    return _Open(store, sweep_id, kept, outbox), todo


@contextmanager
def _killed_if_interrupted(opened: _Open) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        why = "interrupted" if isinstance(error, KeyboardInterrupt) else reason_of(error)
        with suppress(Exception), quietly():  # a store that is away: the next start ends the sweep
            end_killed(opened.store, opened.sweep_id, why)
        raise


def _run_here(
    jobs: Sequence[PlannedJob],
    todo: Sequence[PlannedJob],
    opened: _Open,
    console: Console,
    progress: TerminalProgress,
    count: Callable[[], None],
) -> None:
    """Measure, analyse and log quartet by quartet in this process, in the order of the grid."""
    left = {id(job) for job in todo}
    for job in jobs:
        progress.begin(job.plan.label)
        if id(job) in left:
            progress.end(run_job(job, opened.sweep_id, opened.store, progress))
            _tell_waiting(console, opened.outbox, deliver(opened.outbox))
        else:
            progress.end(None, kept=True)
        count()


def _run_elsewhere(
    todo: Sequence[PlannedJob],
    opened: _Open,
    launcher: Launcher,
    overrides: Sequence[str],
    console: Console,
    progress: TerminalProgress,
    count: Callable[[], None],
    interruption: Interruption,
) -> None:
    """Have a launcher run the quartets in other processes, and tell of each as soon as the store has its end.

    Where one is killed outright the launcher gives up; finished rows are kept.
    """
    for _ in opened.kept.finished:
        progress.end(None, kept=True)
    count()
    task = errand_of(todo, opened.sweep_id, opened.store)
    with watching(opened.store, opened.sweep_id, opened.kept.finished.values(), progress, count):
        try:
            launch(launcher, overrides, task, len(todo))
        except Exception as error:
            if interruption.came():  # a launcher with a handler of its own for SIGTERM
                raise KeyboardInterrupt from None
            console.print(f"{launcher.name} gave up: {reason_of(error)}", **_PLAIN)


def _conclude(console: Console, opened: _Open, resolved: Resolved) -> int:
    """Deliver what waits, judge the verdicts together, end the sweep, print its table; return the exit status."""
    store, sweep_id, jobs = opened.store, opened.sweep_id, len(resolved.plans)
    waiting = deliver(opened.outbox)
    try:
        with quietly():
            adjust(store, load(sweep_id, store.uri))
            if resolved.plans[0].config.tracking.report and not waiting:
                _publish(console, store, sweep_id)
            counts = finish_sweep(store, sweep_id, jobs)  # last: what is FINISHED is complete
        print_table(console, load(sweep_id, store.uri), store.uri)
    except Exception as error:
        console.print(f"The tracking store is away: {reason_of(error)}", **_PLAIN)
        counts = {}
    if waiting:
        console.print(
            f"{len(waiting)} quartets are measured and not logged yet, they wait in {opened.outbox.folder}: "
            "the same command delivers them.",
            **_PLAIN,
        )
    return 0 if counts == {"FINISHED": jobs} else 1


def _tell_waiting(console: Console, outbox: Outbox, waiting: Sequence[Waiting]) -> None:
    for one in waiting:
        console.print(f"  {one.run_name} is not logged yet: {one.reason}; it waits in {outbox.folder}", **_PLAIN)


def _publish(console: Console, store: Store, sweep_id: str) -> None:
    """Put the report into the parent run; what was measured is kept whatever becomes of it."""
    from harness.report.publish import publish
    from harness.report.study import open_study

    try:
        publish(store, open_study(sweep_id, store.uri))
    except Exception as error:  # the measurements are worth more than their page
        console.print(
            f"The report was not logged: {type(error).__name__}: {str(error)[:200]}", style="yellow", markup=False
        )
        console.print("python -m harness.report makes it from the store.", style="yellow")


def _announce(console: Console, resolved: Resolved, jobs: Sequence[PlannedJob], kept: Kept) -> None:
    auto = resolved.engines.get("auto")
    if auto is not None and any(plan.engine == auto for plan in resolved.plans):
        console.print(f"engine={auto}: {resolved.reason}", **_PLAIN)
    if kept.finished:
        console.print(
            f"Going on with sweep {kept.name}: {len(kept.finished)} of {len(jobs)} quartets are kept "
            "(resume=never measures all of them anew).",
            **_PLAIN,
        )

"""Conduct a checked sweep: open the store, keep what an unfinished one has, build ahead, run job after job, sum up."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from rich.console import Console

from harness.config import HarnessConfig
from harness.measure.design import QuartetPlan
from harness.report.table import print_table
from harness.sweep.ahead import build_ahead
from harness.sweep.check import Resolved
from harness.sweep.context import SweepContext
from harness.sweep.family import adjust
from harness.sweep.fleet.errand import fleet_job
from harness.sweep.fleet.launcher import Launcher, check_reach
from harness.sweep.fleet.watch import watching
from harness.sweep.job import plan_job, quartet_key, run_job
from harness.sweep.names import sweep_label
from harness.sweep.plan import plan_quartet
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


def conduct(
    configs: Sequence[HarnessConfig],
    resolved: Resolved,
    command: str,
    launch: Callable[[Callable[[Any], None]], Any],
    launcher: Launcher,
    interruption: Interruption,
) -> int:
    """Run a sweep and return its exit status.

    `launch(job)` calls `job(composed config)` for each of its quartets: here, or wherever `launcher` takes it.
    """
    console = Console() if sys.stdout.isatty() else Console(width=140)
    check_reach(launcher, resolve_uri(configs[0].tracking.uri, configs[0].tracking.root)[0])
    store = open_store(configs[0].tracking)
    install_views(store)
    engines = [resolved.engine_of(config) for config in configs]
    plans = [plan_quartet(*one, resolved.device) for one in zip(configs, engines, strict=True)]
    chip = gpu() if resolved.device == "cuda" else None
    keys = [quartet_key(plan, chip) for plan in plans]
    outbox = outbox_of(store, configs[0].tracking.root)
    name = configs[0].sweep_name or sweep_label(plans)
    tags = {"engine": ", ".join(dict.fromkeys(engines)), "command": redacted(command)}
    tags |= {PROCESS_TAG: this_process(), GRID_TAG: grid_key(keys)}
    with as_user_error(store.uri, "begin a sweep in"), exclusive(store):  # or two could adopt the same quartets
        deliver(outbox)
        end_the_dead(store)
        kept = find_kept(store, keys, configs[0].resume)
        sweep_id = start_sweep(store, name, tags | continuation_tags(kept), {"jobs": len(configs)})
        adopt(store, kept, sweep_id)
    context = SweepContext(sweep_id, resolved.engines, resolved.device)
    _announce(console, resolved, plans, kept)
    how = f"The same command goes on: {redacted(command)}"
    interruption.told = f"0 of {len(configs)} quartets are done. {how}"
    with TerminalProgress(console, len(configs)) as progress:

        def count() -> None:
            interruption.told = f"{progress.good} of {len(configs)} quartets are done and kept. {how}"

        def job(composed: Any) -> None:
            plan = plan_job(composed, context)
            progress.begin(plan.label)
            if quartet_key(plan, chip) in kept.finished:
                progress.end(None, kept=True)
            else:
                progress.end(run_job(plan, composed, context, store, progress))
                _tell_waiting(console, outbox, deliver(outbox))
            count()

        try:
            progress.begin("the sweep")
            todo = [one for one, key in zip(zip(configs, engines, strict=True), keys, strict=True)
                    if key not in kept.finished]  # fmt: skip
            if launcher.one_machine:
                build_ahead(todo, resolved.device, progress, sweep_id, launcher.at_once)
            if launcher.here:
                launch(job)
            else:
                for _ in kept.finished:
                    progress.end(None, kept=True)
                count()
                errands = fleet_job(context, store, kept.finished, chip)
                with watching(store, sweep_id, kept.finished.values(), progress, count):
                    _send_out(lambda: launch(errands), interruption)
        except BaseException as error:
            why = "interrupted" if isinstance(error, KeyboardInterrupt) else reason_of(error)
            with suppress(Exception), quietly():  # a store that is away: the next start ends the sweep
                end_killed(store, sweep_id, why)
            raise
    return _conclude(console, store, outbox, sweep_id, configs)


def _send_out(launch: Callable[[], Any], interruption: Interruption) -> None:
    """Run jobs in other processes. Where one is killed outright the launcher gives up; finished rows are kept."""
    try:
        launch()
    except SystemExit:  # Hydra's, which has said why; or of a launcher with a handler of its own for SIGTERM
        if interruption.came():
            raise KeyboardInterrupt from None


def _conclude(console: Console, store: Store, outbox: Outbox, sweep_id: str, configs: Sequence[HarnessConfig]) -> int:
    """Deliver what waits, judge the verdicts together, end the sweep, print its table; return the exit status."""
    waiting, jobs = deliver(outbox), len(configs)
    try:
        with quietly():
            adjust(store, load(sweep_id, store.uri))
            if configs[0].tracking.report and not waiting:
                _publish(console, store, sweep_id)
            counts = finish_sweep(store, sweep_id, jobs)  # last: what is FINISHED is complete
        print_table(console, load(sweep_id, store.uri), store.uri)
    except Exception as error:
        console.print(f"The tracking store is away: {reason_of(error)}", **_PLAIN)
        counts = {}
    if waiting:
        console.print(
            f"{len(waiting)} quartets are measured and not logged yet, they wait in {outbox.folder}: "
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


def _announce(console: Console, resolved: Resolved, plans: Sequence[QuartetPlan], kept: Kept) -> None:
    auto = resolved.engines.get("auto")
    if auto is not None and any(plan.engine == auto for plan in plans):
        console.print(f"engine={auto}: {resolved.reason}", **_PLAIN)
    if kept.finished:
        console.print(
            f"Going on with sweep {kept.name}: {len(kept.finished)} of {len(plans)} quartets are kept "
            "(resume=never measures all of them anew).",
            **_PLAIN,
        )

"""Conduct a checked sweep: open the store, keep what an unfinished one has, build ahead, run job after job, sum up."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console

from harness.ahead import build_ahead
from harness.config import HarnessConfig, from_omegaconf
from harness.environment import gpu
from harness.family import adjust
from harness.fleet.job import fleet_job
from harness.fleet.launcher import Launcher, check_reach
from harness.fleet.watch import watching
from harness.job import quartet_key, run_job
from harness.plan import QuartetPlan, plan_quartet
from harness.report.table import print_table
from harness.resume import GRID_TAG, PROCESS_TAG, Kept, adopt, end_the_dead, find_kept, grid_key, this_process
from harness.sweep import Resolved, SweepContext, sweep_label
from harness.terminal import TerminalProgress
from harness.track import Store, finish_sweep, install_views, open_store, start_sweep
from harness.track.load import load
from harness.track.store import resolve_uri


def conduct(
    configs: Sequence[HarnessConfig],
    resolved: Resolved,
    command: str,
    launch: Callable[[Callable[[Any], None]], Any],
    launcher: Launcher,
) -> int:
    """Run a sweep and return its exit status.

    `launch(job)` calls `job(composed config)` for each of its quartets: here, or wherever `launcher` takes it.
    """
    started_at = time.time()
    console = Console() if sys.stdout.isatty() else Console(width=140)
    check_reach(launcher, resolve_uri(configs[0].tracking.uri, configs[0].tracking.root)[0])
    store = open_store(configs[0].tracking)
    install_views(store)
    engines = [resolved.engine_of(config) for config in configs]
    plans = [plan_quartet(*one, resolved.device) for one in zip(configs, engines, strict=True)]
    chip = gpu() if resolved.device == "cuda" else None
    keys = [quartet_key(plan, chip) for plan in plans]
    end_the_dead(store)
    kept = find_kept(store, keys, configs[0].resume)
    name = configs[0].sweep_name or sweep_label(plans)
    tags = {"engine": ", ".join(dict.fromkeys(engines)), "command": command}
    tags |= {PROCESS_TAG: this_process(), GRID_TAG: grid_key(keys)}
    sweep_id = start_sweep(store, name, tags, {"jobs": len(configs)})
    adopt(store, kept, sweep_id)
    context = SweepContext(
        sweep_id=sweep_id,
        name=name,
        engines=resolved.engines,
        device=resolved.device,
        total=len(configs),
        store_uri=store.uri,
        store_root=str(store.root or ""),
        store_experiment=store.experiment,
        started_at=started_at,
    )
    context.publish()
    _announce(console, resolved, plans, kept)
    with TerminalProgress(console, len(configs)) as progress:

        def job(composed: Any) -> None:
            config = from_omegaconf(composed)
            plan = plan_quartet(config, resolved.engine_of(config), resolved.device)
            progress.begin(plan.label)
            if quartet_key(plan, chip) in kept.finished:
                progress.end(None, kept=True)
            else:
                progress.end(run_job(composed, context, store, progress))

        try:
            progress.begin("the sweep")
            todo = [one for one, key in zip(zip(configs, engines, strict=True), keys, strict=True)
                    if key not in kept.finished]  # fmt: skip
            if launcher.one_machine:
                build_ahead(todo, resolved.device, progress, launcher.at_once)
            if launcher.here:
                launch(job)
            else:
                _send_out(launch, launcher, context, store, kept, chip, progress)
        finally:
            counts = finish_sweep(store, sweep_id, len(configs))
    adjust(store, load(sweep_id, store.uri))
    print_table(console, load(sweep_id, store.uri), store.uri)
    return 0 if counts == {"FINISHED": len(configs)} else 1


def _send_out(
    launch: Callable[[Callable[[Any], None]], Any],
    launcher: Launcher,
    context: SweepContext,
    store: Store,
    kept: Kept,
    chip: dict[str, Any] | None,
    progress: TerminalProgress,
) -> None:
    """Run the jobs in other processes. Where one is killed outright the launcher gives up; finished rows are kept."""
    for _ in kept.finished:
        progress.end(None, kept=True)
    with watching(store, context.sweep_id, kept.finished.values(), progress):
        try:
            launch(fleet_job(context, store, kept.finished, chip))
        except SystemExit:  # Hydra has said why; the rows, and their number, decide the exit status
            progress.stage(f"{launcher.name} lost a job")


def _announce(console: Console, resolved: Resolved, plans: Sequence[QuartetPlan], kept: Kept) -> None:
    auto = resolved.engines.get("auto")
    if auto is not None and any(plan.engine == auto for plan in plans):
        console.print(f"engine={auto}: {resolved.reason}", highlight=False, soft_wrap=True)
    if kept.finished:
        console.print(
            f"Going on with sweep {kept.name}: {len(kept.finished)} of {len(plans)} quartets are kept "
            "(resume=never measures all of them anew).",
            highlight=False, soft_wrap=True,
        )  # fmt: skip

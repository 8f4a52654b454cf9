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
from harness.job import quartet_key, run_job
from harness.plan import QuartetPlan, plan_quartet
from harness.report.table import print_table
from harness.resume import GRID_TAG, PROCESS_TAG, Kept, adopt, end_the_dead, find_kept, grid_key, this_process
from harness.sweep import Resolved, SweepContext, sweep_label
from harness.terminal import TerminalProgress
from harness.track import Store, finish_sweep, install_views, open_store, start_sweep
from harness.track.load import load


def conduct(
    configs: Sequence[HarnessConfig],
    resolved: Resolved,
    command: str,
    launch: Callable[[Callable[[Any], None]], Any],
) -> int:
    """Run a sweep and return its exit status; `launch(job)` calls `job(composed config)` for each of its quartets."""
    started_at = time.time()
    console = Console() if sys.stdout.isatty() else Console(width=140)
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
            build_ahead(todo, resolved.device, progress)
            launch(job)
        finally:
            counts = finish_sweep(store, sweep_id)
    adjust(store, load(sweep_id, store.uri))
    if configs[0].tracking.report:
        _publish(console, store, sweep_id)
    print_table(console, load(sweep_id, store.uri), store.uri)
    return 0 if set(counts) == {"FINISHED"} else 1


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
        console.print(f"engine={auto}: {resolved.reason}", highlight=False, soft_wrap=True)
    if kept.finished:
        console.print(
            f"Going on with sweep {kept.name}: {len(kept.finished)} of {len(plans)} quartets are kept "
            "(resume=never measures all of them anew).",
            highlight=False, soft_wrap=True,
        )  # fmt: skip

"""One Hydra job: plan a quartet, prepare its cells, measure them, analyse, and leave one row in MLflow.

Whatever goes wrong ends here as a FAILED run with its reason, so that the other jobs of the sweep go on.
"""

from __future__ import annotations

import socket
import tempfile
import traceback
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.analyse import analyse
from harness.config import from_omegaconf
from harness.engines import get
from harness.engines.cache import Cache, key_of, open_cache
from harness.environment import code_digest, cpu_name, git_sha, gpu
from harness.errors import CellError, UserError
from harness.fleet.seat import simulated_device
from harness.measure.lock import building, device_lock
from harness.measure.progress import Progress
from harness.measure.protocol import measure
from harness.plan import QuartetPlan, plan_quartet
from harness.prepare import prepare, tasks
from harness.record import params, record
from harness.sweep import SweepContext
from harness.track import QuartetRecord, Store, finish, log_quartet, start_quartet


def run_job(composed: Any, context: SweepContext, store: Store, progress: Progress) -> str | None:
    """Run one quartet; return None if it is FINISHED, else the reason why it is not."""
    from omegaconf import OmegaConf

    config = from_omegaconf(composed)
    plan = plan_quartet(config, context.engines[config.engine.name], context.device)
    chip = gpu() if context.device == "cuda" else None
    run_id = start_quartet(
        store,
        context.sweep_id,
        f"{plan.label} b{config.batch_size}",
        params(plan),
        {
            "git_sha": git_sha(),
            "gpu": chip["name"] if chip else "none",
            "device": device_id(plan),
            "host": socket.gethostname(),
            "boundary": plan.primary,
            "quartet_key": quartet_key(plan, chip),
        },
    )
    try:
        with tempfile.TemporaryDirectory(prefix="harness-") as folder:
            row = run_quartet(
                plan,
                open_cache(config.cache, context.started_at),
                progress,
                Path(folder),
                OmegaConf.to_yaml(composed, resolve=True),
            )
            progress.stage("log")
            log_quartet(store, run_id, row)
        finish(store, run_id, "FINISHED")
        return None
    except KeyboardInterrupt:
        finish(store, run_id, "KILLED", "interrupted")
        raise
    except (CellError, UserError) as error:
        reason = str(error)
    except Exception as error:  # our bug: keep the traceback with the run, go on with the sweep
        reason = f"{type(error).__name__}: {error}"
        _keep_traceback(store, run_id)
    finish(store, run_id, "FAILED", reason)
    return reason


def run_quartet(
    plan: QuartetPlan, cache: Cache, progress: Progress, folder: Path, resolved_config: str
) -> QuartetRecord:
    """Return the row of one quartet; raise CellError with the reason why there is none."""
    progress.stage("wait until nothing is timed")
    with building():
        cells, *rebuilt = (prepare(plan, cache, progress, build) for build in range(plan.config.protocol.builds))
        if plan.config.engine.build_only:
            return record(plan, cells, None, None, folder, resolved_config)
        todo, *others = (tasks(plan, replica) for replica in (cells, *rebuilt))
    progress.stage("wait for the device")
    with device_lock(device_id(plan)):
        measurement = measure(todo, plan.config.protocol, plan.primary, progress, others)
    return record(plan, cells, measurement, analyse(measurement, plan.config.protocol), folder, resolved_config)


def quartet_key(plan: QuartetPlan, chip: Mapping[str, Any] | None) -> str:
    """Return the SHA-256 of all that makes two quartets the same measurement: config, code, engine, chip, driver."""
    config = asdict(plan.config)
    for elsewhere in ("tracking", "cache", "sweep_name", "resume"):  # where results and artifacts lie changes no number
        config.pop(elsewhere)
    return key_of(
        {
            "config": config,
            "code": code_digest(),
            "engine": [plan.engine, get(plan.engine).version()],
            "chip": [chip[name] for name in ("name", "driver")] if chip else cpu_name(),
        }
    )


def device_id(plan: QuartetPlan) -> str:
    """Return what the device lock is named by: the GPU's UUID, or "cpu"."""
    chip = gpu() if plan.device == "cuda" else None
    return chip["uuid"] if chip else simulated_device() or plan.device


def _keep_traceback(store: Store, run_id: str) -> None:
    """Log the traceback of the exception in flight as an artifact."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "traceback.txt"
        path.write_text(traceback.format_exc())
        log_quartet(store, run_id, QuartetRecord(artifacts={"traceback.txt": path}))

"""One Hydra job: plan a quartet, prepare its cells, measure them, analyse, and leave one row in MLflow.

Whatever goes wrong ends here as a FAILED run with its reason, so that the other jobs of the sweep go on.
"""

from __future__ import annotations

import socket
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from functools import cache as memoised
from pathlib import Path
from typing import Any

from harness.config.sources import modules_of, source_digest
from harness.engines import get
from harness.engines.build import engine_digest
from harness.measure.cell import QuartetPlan
from harness.measure.lock import building, device_id, device_lock
from harness.measure.progress import Progress
from harness.measure.references import BuiltQuartet
from harness.networks.data.labelled import content_digest
from harness.results.record import add_measured, begin_row, params
from harness.results.row import QuartetRecord
from harness.sweep.build import build_quartet
from harness.sweep.scenarios import scenario_of
from harness.sweep.scenarios.scenario import sources
from harness.system.cache import Cache, key_of, open_cache
from harness.system.errors import CellError, UserError
from harness.system.machine import cpu_name, git_sha, gpu
from harness.system.secrets import redacted
from harness.techniques.arch.assembled import base_identity
from harness.techniques.finetuned import base_model, weights_identity
from harness.tracking import Store, finish
from harness.tracking.outbox import Outbox, StartedRun, begin, hand_over, outbox_of, reason_of

# what decides the numbers of a quartet; networks, techniques and engines are told apart one by one
_MEASURING = (
    "harness.stats", "harness.networks.data", "harness.engines.export", "harness.measure", "harness.results.analyse",
    "harness.results.accuracy", "harness.results.cells", "harness.results.record", "harness.results.roofline",
    "harness.sweep.build", "harness.sweep.plan",
)  # fmt: skip
_EXPLAINING = ("harness.results.why", "harness.engines.profiling")


@dataclass(frozen=True)
class PlannedJob:
    """One quartet of a sweep, on its way to whoever runs it: plans travel, configs don't."""

    plan: QuartetPlan
    text: str  # its composed config as YAML, kept with its row


def run_job(job: PlannedJob, sweep_id: str, store: Store, progress: Progress) -> str | None:
    """Run one quartet; return None if it is FINISHED, else why it is not."""
    plan, config = job.plan, job.plan.config
    chip = gpu() if plan.device == "cuda" else None
    outbox = outbox_of(store, config.tracking.root)
    quartet = begin(
        outbox,
        sweep_id,
        f"{plan.label} b{config.batch_size}",
        params(plan) | scenario_of(config).params(config),
        {
            "git_sha": git_sha(),
            "gpu": chip["name"] if chip else "none",
            "device": device_id(plan.device),
            "host": socket.gethostname(),
            "boundary": plan.primary,
            "quartet_key": quartet_key(plan, chip),
        },
    )
    try:
        with tempfile.TemporaryDirectory(prefix="harness-") as folder:
            row = run_quartet(
                plan,
                open_cache(config.cache, sweep_id),
                progress,
                Path(folder),
                redacted(job.text),
            )
            progress.stage("log")
            return hand_over(outbox, quartet, row)
    except KeyboardInterrupt:
        with suppress(Exception):  # a store that is away: the next start ends the run
            finish(store, quartet.run_id, "KILLED", "interrupted")
        raise
    except (CellError, UserError) as error:
        reason, details = redacted(str(error)), ""
    except OSError as error:  # a full disk, a folder that is gone: the machine's trouble, and the message says it all
        reason, details = reason_of(error), ""
    except Exception as error:  # our bug: keep the traceback with the run, go on with the sweep
        reason, details = redacted(f"{type(error).__name__}: {error}"), redacted(traceback.format_exc())
    return _hand_over_failure(outbox, quartet, reason, details)


def run_quartet(
    plan: QuartetPlan, cache: Cache, progress: Progress, folder: Path, resolved_config: str
) -> QuartetRecord:
    """Return the row of one quartet; raise CellError with the reason why there is none."""
    scenario = scenario_of(plan.config)
    progress.stage("wait until nothing is timed")
    with building():
        built = [build_quartet(requested, cache, progress, number) for requested, number in scenario.builds(plan)]
    if plan.config.engine.build_only:
        return begin_row(plan, built[0].cells, folder).finished(resolved_config)
    progress.stage("wait for the device")
    with device_lock(device_id(plan.device)):
        measurement = scenario.measure(plan, built, progress)
    return row_of(plan, built, measurement, folder, resolved_config)


def row_of(
    plan: QuartetPlan, built: Sequence[BuiltQuartet], measurement: Any, folder: Path, resolved_config: str
) -> QuartetRecord:
    """Analyse what a quartet's scenario measured; return its row, with files below `folder`."""
    scenario = scenario_of(plan.config)
    analysis = scenario.analyse(plan, measurement)
    cells = scenario.measured_cells(built, measurement)
    row = begin_row(plan, cells, folder)
    add_measured(row, plan, cells, measurement, analysis)
    scenario.metrics(row, plan, cells, measurement, analysis)
    return row.finished(resolved_config)


def quartet_key(plan: QuartetPlan, chip: Mapping[str, Any] | None) -> str:
    """Return the SHA-256 of all that makes two quartets the same measurement: config, network, images, engines, chip.

    Of our code what measures counts, and what makes numbers of it; not what shows or stores them.
    """
    config = asdict(plan.config)
    # where results and artifacts lie changes no number; what was trained is told by its content
    for elsewhere in ("tracking", "cache", "sweep_name", "resume", "checkpoints", "train"):
        config.pop(elsewhere)
    return key_of(
        {
            "config": config,
            "levels": [asdict(cell.levels) for cell in plan.cells],
            "network": base_identity(base_model(plan.config), plan.config.arch),
            "weights": weights_identity(plan.config),
            "images": content_digest(plan.config.data),
            "sources": _room_digest(*_rooms(plan)),
            "engines": [_engine(name, plan.config.protocol.why) for name in _engine_names(plan)],
            "chip": [chip[name] for name in ("name", "driver")] if chip else cpu_name(),
        }
    )


def _rooms(plan: QuartetPlan) -> list[str]:
    """Return the rooms whose code decides what a quartet's row says."""
    rooms = [*_MEASURING, *sources(scenario_of(plan.config))]
    if plan.config.protocol.why:
        rooms += _EXPLAINING
    return rooms


@memoised
def _room_digest(*rooms: str) -> str:
    return source_digest(name for room in rooms for name in modules_of(room))


def _engine_names(plan: QuartetPlan) -> list[str]:
    return sorted({plan.engine, *(cell.engine for cell in plan.cells)})


def _engine(name: str, why: bool) -> list[str]:
    engine = get(name)
    profiler = [engine_digest(type(engine), profiler=True)] if why else []
    return [name, engine.version(), engine_digest(type(engine)), *profiler]


def _hand_over_failure(outbox: Outbox, quartet: StartedRun, reason: str, details: str) -> str:
    """Log a failed quartet with its reason, and with its traceback where there is one and room for it."""
    record = QuartetRecord()
    with ExitStack() as stack:
        if details:
            with suppress(OSError):
                folder = stack.enter_context(tempfile.TemporaryDirectory())
                (Path(folder) / "traceback.txt").write_text(details)
                record = QuartetRecord(artifacts={"traceback.txt": Path(folder) / "traceback.txt"})
        lost = hand_over(outbox, quartet, record, "FAILED", reason)
    return f"{reason}; {lost}" if lost else reason

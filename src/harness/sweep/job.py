"""The quartets of a design: build their cells, measure them side by side, analyse, leave a row for each in MLflow.

Whatever goes wrong ends here as a FAILED run with its reason, so that the other quartets of the sweep go on.
"""

from __future__ import annotations

import errno
import os
import socket
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import cache as memoised
from pathlib import Path
from typing import Any

from harness.config import HarnessConfig, arch_off
from harness.config.sources import modules_of, source_digest
from harness.engines import get
from harness.engines.build import engine_digest
from harness.measure.cell import Cell, QuartetPlan
from harness.measure.lock import building, device_id, device_lock
from harness.measure.progress import Progress, Silent
from harness.networks.data.labelled import content_digest
from harness.results.record import add_measured, begin_row, params
from harness.results.row import QuartetRecord
from harness.sweep.build import DesignBuilder
from harness.sweep.scenarios import scenario_of
from harness.sweep.scenarios.scenario import sources
from harness.system.cache import key_of, open_cache
from harness.system.errors import CellError, UserError
from harness.system.files import scratch_folder
from harness.system.machine import cpu_name, git_sha, gpu
from harness.system.secrets import redacted
from harness.techniques.arch.assembled import base_identity
from harness.techniques.finetuned import base_model, weights_identity
from harness.tracking import Store, finish
from harness.tracking.outbox import Outbox, RowLost, StartedRun, begin, hand_over, outbox_of, reason_of

# what decides the numbers of a quartet; networks, techniques and engines are distinguished one by one
_MEASURING = (
    "harness.stats", "harness.networks.data", "harness.networks.inputs", "harness.engines.export", "harness.measure",
    "harness.results.analyse", "harness.results.accuracy", "harness.results.cells", "harness.results.record",
    "harness.results.roofline", "harness.sweep.build", "harness.sweep.plan",
)  # fmt: skip
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_EXPLAINING = ("harness.results.why", "harness.engines.profiling")


@dataclass(frozen=True)
class PlannedJob:
    """One quartet of a sweep as it is sent to the process that runs it: plans are sent, configs are not."""

    plan: QuartetPlan
    text: str  # its composed config as YAML, kept with its row


@dataclass(frozen=True)
class PlannedDesign:
    """Quartets measured side by side, as they are sent to the process that runs them."""

    jobs: tuple[PlannedJob, ...]
    family: int = 1  # quartets of the whole sweep


Ended = Callable[[PlannedJob, str | None], None]  # None if its row is FINISHED, else why it is not


def designs_of(jobs: Sequence[PlannedJob], family: int, at_once: int = 1) -> list[PlannedDesign]:
    """Return the designs of a sweep: quartets whose configs differ in their techniques alone are one.

    Each is a design of its own with `protocol.side_by_side=false`, or where the scenario can't measure several. Where
    `at_once` designs can be measured, on devices of their own, large ones are halved until there are as many.
    """
    groups: dict[str, list[PlannedJob]] = {}
    for number, job in enumerate(jobs):
        config = job.plan.config
        shared = scenario_of(config).side_by_side and config.protocol.side_by_side and not config.engine.build_only
        rest = replace(config, arch=arch_off(), hw=HarnessConfig().hw)
        groups.setdefault(repr((rest, job.plan.device)) if shared else str(number), []).append(job)
    designs = list(groups.values())
    while len(designs) < at_once and any(len(group) > 1 for group in designs):
        largest = max(range(len(designs)), key=lambda number: len(designs[number]))
        group = designs[largest]
        designs[largest : largest + 1] = [group[: (len(group) + 1) // 2], group[(len(group) + 1) // 2 :]]
    return [PlannedDesign(tuple(group), family) for group in designs]


def run_design(design: PlannedDesign, sweep_id: str, store: Store, progress: Progress, ended: Ended) -> None:
    """Run the quartets of a design; call `ended` for each of them, as soon as its row is there.

    Whatever goes wrong with one quartet ends as its FAILED row with the reason.
    """
    run = DesignRun(design, sweep_id, store, progress, ended)
    run.prepare()
    run.measure()


class DeviceLost(Exception):
    """The device died under a design: what has not ended is for another device."""


def _is_there() -> str:
    return ""


class DesignRun:
    """A design on its way: prepared (rows begun, cells built), then measured. `ended` is called for each quartet.

    `trouble` is asked where a quartet fails; if it says that the device is dead, DeviceLost is raised, and the rows of
    the quartets that had not ended stay open.
    """

    def __init__(
        self,
        design: PlannedDesign,
        sweep_id: str,
        store: Store,
        progress: Progress,
        ended: Ended,
        trouble: Callable[[], str] = _is_there,
    ) -> None:
        self._rows = _Rows(design, store, progress, ended, trouble)
        self._sweep_id, self._store, self._progress = sweep_id, store, progress
        self._plans = [job.plan for job in design.jobs]
        self._scenario = scenario_of(self._plans[0].config)
        self._built: dict[int, list[dict[str, Cell]]] = {}

    def prepare(self, alone: AbstractContextManager[None] | None = None) -> None:
        """Begin the rows and build the cells, inside of `alone`, which sees to it that nothing is timed meanwhile."""
        with self._rows_ended():
            self._rows.begin(self._sweep_id)
            with alone or building(_waiting(self._progress, "wait until nothing is timed")):
                self._build()
            if self._plans[0].config.engine.build_only:
                for number, built in self._built.items():
                    self._rows.finish(number, built, None)

    def _build(self) -> None:
        cache = open_cache(self._plans[0].config.cache, self._sweep_id)
        builder = DesignBuilder(self._plans, cache, self._progress)
        for number, plan in enumerate(self._plans):
            try:
                requested = self._scenario.builds(plan)
                self._built[number] = [builder.quartet(variant, build) for variant, build in requested]
            except Exception as error:
                self._rows.fail(number, error)

    def measure(self) -> None:
        """Measure what was prepared, side by side, when the device is free."""
        numbers = self._rows.open()
        if not numbers:
            return

        def end(index: int, found: Any) -> None:
            number = numbers[index]
            if isinstance(found, CellError):
                self._rows.fail(number, found)
            else:
                self._rows.finish(number, self._built[number], found)

        plans, found = [self._plans[number] for number in numbers], [self._built[number] for number in numbers]
        with (
            self._rows_ended(),
            device_lock(device_id(plans[0].device), _waiting(self._progress, "wait for the device")),
        ):
            self._scenario.measure_all(plans, found, self._progress, end, self._rows.design.family)

    @contextmanager
    def _rows_ended(self) -> Iterator[None]:
        """Leave no row open, whatever what is inside raises."""
        rows = self._rows
        try:
            yield
        except KeyboardInterrupt:
            for number in rows.open():
                with suppress(Exception):  # the store is unreachable: the next start ends the run
                    finish(self._store, rows.runs[number].run_id, "KILLED", "interrupted")
            raise
        except DeviceLost:
            raise
        except RowLost:  # and so would the others be
            for number in rows.open():
                with suppress(RowLost):
                    rows.fail(number, CellError("the sweep was stopped: no row can be written any more"))
            raise
        except Exception as error:  # of all that have not ended yet
            for number in rows.open():
                rows.fail(number, error)


def fail_all(design: PlannedDesign, sweep_id: str, store: Store, reason: str, ended: Ended) -> None:
    """Leave a FAILED row for each quartet of a design that nothing can measure."""
    rows = _Rows(design, store, Silent(), ended)
    rows.begin(sweep_id)
    for number in rows.open():
        rows.fail(number, CellError(reason))


def _waiting(progress: Progress, stage: str) -> Callable[[], None]:
    """Say that somebody waits, now and, by what is returned, as long as that lasts."""
    progress.stage(stage)
    return lambda: progress.stage(stage)


class _Rows:
    """The rows of a design's quartets, from their beginning to their end."""

    def __init__(
        self,
        design: PlannedDesign,
        store: Store,
        progress: Progress,
        ended: Ended,
        trouble: Callable[[], str] = _is_there,
    ) -> None:
        self.design, self._progress, self._tell, self._trouble = design, progress, ended, trouble
        self._outbox = outbox_of(store, design.jobs[0].plan.config.tracking.root)
        self._ended: set[int] = set()
        self.runs: list[StartedRun] = []

    def begin(self, sweep_id: str) -> None:
        """Begin all rows."""
        for job in self.design.jobs:
            self.runs.append(self._begin(job.plan, sweep_id))

    def _begin(self, plan: QuartetPlan, sweep_id: str) -> StartedRun:
        config = plan.config
        chip = gpu() if plan.device == "cuda" else None
        return begin(
            self._outbox,
            sweep_id,
            plan.run_name,
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

    def open(self) -> list[int]:
        """Return the quartets that have not ended."""
        return [number for number in range(len(self.runs)) if number not in self._ended]

    def finish(self, number: int, built: Sequence[Mapping[str, Cell]], measurement: Any) -> None:
        """Analyse a quartet and log its row; `measurement` is None where it was only built."""
        try:
            reason = self._handed_over(number, built, measurement)
        except RowLost as lost:
            self._end(number, str(lost))
            raise
        except Exception as error:
            self.fail(number, error)
        else:
            self._end(number, reason)

    def _handed_over(self, number: int, built: Sequence[Mapping[str, Cell]], measurement: Any) -> str | None:
        """Write a row's files, where there is room, and hand it over; return why the store refused it."""
        job, full = self.design.jobs[number], []
        for place in (self._outbox.folder, Path(tempfile.gettempdir())):
            with scratch_folder(place) as folder:
                try:
                    row = row_of(job.plan, built, measurement, folder, redacted(job.text))
                except OSError as error:
                    if error.errno not in _NO_ROOM:
                        raise
                    full.append(f"{place}: {os.strerror(error.errno)}")
                    continue
                self._progress.stage("log")
                return hand_over(self._outbox, self.runs[number], row)
        reason = f"its files can't be written ({'; '.join(full)})"
        with suppress(RowLost):
            _hand_over_failure(self._outbox, self.runs[number], reason, "")
        raise RowLost(reason)

    def fail(self, number: int, error: Exception) -> None:
        """Log a quartet as FAILED with its reason; raise DeviceLost where it is the device's."""
        if lost := self._trouble():
            raise DeviceLost(lost)
        details = ""
        if isinstance(error, CellError | UserError):
            reason = redacted(str(error))
            if isinstance(error, UserError) and error.__cause__ is not None:  # a bug in a user's code
                details = redacted("".join(traceback.format_exception(error)))
        elif isinstance(error, OSError):  # a full disk, a missing folder: the message says it all
            reason = reason_of(error)
        else:  # our bug: keep the traceback with the run, go on with the sweep
            reason = redacted(f"{type(error).__name__}: {error}")
            details = redacted("".join(traceback.format_exception(error)))
        try:
            self._end(number, _hand_over_failure(self._outbox, self.runs[number], reason, details))
        except RowLost as lost:
            self._end(number, f"{reason}; {lost}")
            raise

    def _end(self, number: int, reason: str | None) -> None:
        self._ended.add(number)
        self._tell(self.design.jobs[number], reason)


def row_of(
    plan: QuartetPlan, built: Sequence[Mapping[str, Cell]], measurement: Any, folder: Path, resolved_config: str
) -> QuartetRecord:
    """Analyse what a quartet's scenario measured; return its row, with files below `folder`.

    Without a measurement it is the row of what was built.
    """
    if measurement is None:
        return begin_row(plan, built[0], folder).finished(resolved_config)
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
    # where results and artifacts lie changes no number; trained weights are identified by their content
    elsewhere = ("tracking", "cache", "sweep_name", "resume", "checkpoints", "train", "on_unsupported", "dry_run")
    for name in elsewhere:
        config.pop(name)
    config["engine"].pop("devices")
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
                file = stack.enter_context(scratch_folder(outbox.folder)) / "traceback.txt"
                file.write_text(details)
                record = QuartetRecord(artifacts={file.name: file})
        lost = hand_over(outbox, quartet, record, "FAILED", reason)
    return f"{reason}; {lost}" if lost else reason

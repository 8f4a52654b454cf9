"""How a quartet is measured: verified first, warmed up, then interleaved blocks until the interval is narrow enough.

A block visits every cell once in a fresh random order. A restart is a fresh set of processes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from harness.config import ProtocolConfig
from harness.errors import CellError
from harness.measure.cell import CellOutputs, CellSpec, Loaded, Warmup
from harness.measure.coordinator import Worker, workers
from harness.measure.progress import Progress, Silent
from harness.measure.samples import Samples
from harness.measure.stopping import Standing, host_bound, standing
from harness.measure.telemetry import Telemetry
from harness.measure.verify import Expected, Fidelity, compare

COURSEWORK_WARMUPS, COURSEWORK_ITERATIONS = 3, 20  # the coursework's own recipe


@dataclass(frozen=True)
class Measurement:
    """Everything measured on one quartet."""

    samples: Samples
    primary: str  # the boundary that verdicts use
    standing: Standing  # of the last block on the primary boundary
    converged: bool
    seconds: float  # from the first worker's start to the last one's end
    restarts: int
    loaded: Mapping[str, Loaded] = field(default_factory=dict)
    fidelity: Mapping[str, Fidelity] = field(default_factory=dict)
    warmups: Mapping[str, Warmup] = field(default_factory=dict)
    coursework_ms: Mapping[str, list[float]] = field(default_factory=dict)
    telemetry: Telemetry | None = None
    note: str = ""  # why `primary` is not the boundary that was planned


@dataclass(frozen=True)
class CellTask:
    """One cell to measure: its spec, and the reference its outputs must match."""

    spec: CellSpec
    expected: Expected


def measure(tasks: Sequence[CellTask], settings: ProtocolConfig, primary: str, progress: Progress) -> Measurement:
    """Measure all cells of a quartet (1, 2 or 4) side by side; raise CellError where one can't be trusted."""
    started = time.monotonic()
    order = np.random.default_rng(settings.seed)
    samples = Samples([task.spec.role for task in tasks], tasks[0].spec.batch_size)
    restarts, done = settings.restarts, 0
    with Telemetry(tasks[0].spec.device) as telemetry:
        while done < restarts:
            with workers([task.spec for task in tasks]) as handles:
                loaded, fidelity = _bring_up(tasks, handles, settings, progress)
                if not done:
                    first_loaded, first_fidelity = loaded, fidelity
                    primary, note = _primary(primary, loaded, settings)
                    boundaries = _common(loaded)
                    samples.launch_bound = any(cell.no_device for cell in loaded.values())
                    coursework_ms = _coursework(handles, settings, progress) if settings.coursework else {}
                    warmups = _warm_up(handles, settings, tasks[0].spec.device, progress)
                else:
                    _check_same(boundaries, loaded)
                    _warm_up(handles, settings, tasks[0].spec.device, progress)
                # every restart gets its part of the budget and of the blocks; bringing cells up costs none of it
                until = time.monotonic() + settings.budget_s / restarts
                most = math.ceil((done + 1) / restarts * settings.max_blocks)
                run = _Run(samples, settings, primary, order, telemetry, progress)
                now = _blocks(run, handles, boundaries, done, until, most)
            done += 1
            if done == 1 and primary == "wall" and host_bound(samples):
                # such a cell keeps one of several modes for as long as its process lives: only fresh ones tell
                restarts = max(restarts, settings.host_bound_restarts)
    return Measurement(
        samples=samples,
        primary=primary,
        standing=now,
        converged=now.converged(settings),
        seconds=time.monotonic() - started,
        restarts=done,
        loaded=first_loaded,
        fidelity=first_fidelity,
        warmups=warmups,
        coursework_ms=coursework_ms,
        telemetry=telemetry,
        note="; ".join(part for part in (note, _slowed(samples)) if part),
    )


def _slowed(samples: Samples) -> str:
    return (
        f"{samples.slowed} of {samples.blocks} blocks measured on a chip that was slowing down"
        if samples.slowed
        else ""
    )


def _common(loaded: Mapping[str, Loaded]) -> tuple[str, ...]:
    """Return the boundaries that all cells offer: a quartet has only those."""
    offered = [cell.boundaries for cell in loaded.values()]
    return tuple(name for name in offered[0] if all(name in others for others in offered))


def _check_same(boundaries: Sequence[str], loaded: Mapping[str, Loaded]) -> None:
    """Raise CellError where a restart lacks a boundary that the first one had: its blocks could not be joined."""
    for role, cell in loaded.items():
        missing = [name for name in boundaries if name not in cell.boundaries]
        if missing:
            raise CellError(f"{role}: no {missing[0]} boundary after a restart: {cell.no_device}")


def try_out(task: CellTask, settings: ProtocolConfig) -> None:
    """Load and verify one cell in a worker of its own; raise CellError with the reason if that goes wrong."""
    with workers([task.spec]) as handles:
        _bring_up([task], handles, settings, Silent())


def _primary(asked: str, loaded: Mapping[str, Loaded], settings: ProtocolConfig) -> tuple[str, str]:
    """Return the boundary for verdicts, and why it is another one than was planned ("" if it is not)."""
    lacking = {role: cell.no_device for role, cell in loaded.items() if asked not in cell.boundaries}
    if not lacking:
        return asked, ""
    reason = "; ".join(f"{role}: {why}" for role, why in lacking.items())
    if settings.primary != "auto":
        raise CellError(f"protocol.primary={asked}: not every cell has it: {reason}")
    return "wall", f"verdict on wall, because there is no device boundary: {reason}"


def _bring_up(
    tasks: Sequence[CellTask], handles: Mapping[str, Worker], settings: ProtocolConfig, progress: Progress
) -> tuple[dict[str, Loaded], dict[str, Fidelity]]:
    """Load all cells at once (nothing is timed yet), then verify them one after the other."""
    progress.stage("load")
    for handle in handles.values():
        handle.send("load")
    loaded = {role: handle.receive("load", settings.worker_timeout_s) for role, handle in handles.items()}
    fidelity = {}
    for task in tasks:
        role = task.spec.role
        progress.stage("verify", role)
        outputs: CellOutputs = handles[role].ask("verify", task.expected.inputs, settings.worker_timeout_s)
        plan = task.spec.artifacts[0].plan
        try:
            fidelity[role] = compare(outputs, task.expected, plan.precision, plan.tf32)
        except CellError as error:
            raise CellError(f"{role}: {error}") from None
    return loaded, fidelity


def _coursework(handles: Mapping[str, Worker], settings: ProtocolConfig, progress: Progress) -> dict[str, list[float]]:
    """Run the usual recipe on the same executables: one cell after the other, milliseconds of each iteration."""
    out = {}
    for role, handle in handles.items():
        progress.stage("coursework recipe", role)
        out[role] = handle.ask(
            "coursework", (COURSEWORK_WARMUPS, COURSEWORK_ITERATIONS), timeout_s=settings.worker_timeout_s
        )
    return out


def _warm_up(
    handles: Mapping[str, Worker], settings: ProtocolConfig, device: str, progress: Progress
) -> dict[str, Warmup]:
    out = {}
    for role, handle in handles.items():
        progress.stage("warm-up", role)
        min_s = settings.warmup_min_s if device == "cuda" else 0.0
        out[role] = handle.ask("warm_up", (settings, min_s), settings.worker_timeout_s + settings.warmup_max_s)
    return out


@dataclass
class _Run:
    """What all restarts of one measurement share."""

    samples: Samples
    settings: ProtocolConfig
    primary: str
    order: np.random.Generator
    telemetry: Telemetry
    progress: Progress


def _blocks(
    run: _Run,
    handles: Mapping[str, Worker],
    boundaries: tuple[str, ...],
    restart: int,
    until: float,
    most: int,
) -> Standing:
    """Measure blocks until the criterion holds, or the time `until` or `most` blocks in all are reached."""
    roles, samples, settings = list(handles), run.samples, run.settings
    first = samples.blocks
    last = roles[-1]  # was warmed up last
    turn = (boundaries, settings.ramp_iterations, settings.slice_s)
    while True:
        block, slowed = samples.blocks, False
        visits = _order(roles, last, run.order)
        last = visits[-1]
        for position, role in enumerate(visits):
            samples.add(role, restart, block, position, handles[role].ask("slice", turn, settings.worker_timeout_s))
            slowed = run.telemetry.read(role, restart, block) or slowed
        spent = time.monotonic() >= until
        if slowed and not spent:  # past the budget it is kept, and told, or a hot chip would never end
            samples.discard_block()
            continue
        samples.close_block(restart, slowed)
        now = standing(samples, run.primary, settings)
        run.progress.block(now)
        here = samples.blocks - first
        enough = here >= settings.min_blocks and now.converged(settings)
        over = spent or samples.blocks >= most
        # a verdict needs replicates: the minimum of blocks is measured even where the budget is too small for it
        if enough or (over and here >= min(settings.min_blocks, settings.max_blocks)):
            return now


def _order(roles: Sequence[str], last: str, generator: np.random.Generator) -> list[str]:
    """Return a random order of the cells that does not begin with the one that ran last.

    On a GPU a cell that runs twice in a row was slower by 1.3% than after another process (experiments/aa_h200).
    """
    while True:
        order = [roles[index] for index in generator.permutation(len(roles))]
        if len(roles) == 1 or order[0] != last:
            return order

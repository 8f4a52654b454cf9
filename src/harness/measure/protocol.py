"""How a quartet is measured: verified first, warmed up, then interleaved blocks until the interval is narrow enough.

A block visits every cell once in a fresh random order. A restart is a fresh set of processes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import numpy as np

from harness.config import ProtocolConfig
from harness.engines.profiling.profile import CellProfile
from harness.measure.answers import Answers, answer
from harness.measure.bring_up import (
    CellTask,
    bring_up,
    check_same_boundaries,
    common_boundaries,
    primary_boundary,
    usual_recipe,
    warm_up,
)
from harness.measure.ceilings import SIZES, Ceilings
from harness.measure.cell import Loaded, Warmup
from harness.measure.consumption import Consumption, consumption
from harness.measure.coordinator import Handle, Worker, workers
from harness.measure.progress import Progress
from harness.measure.samples import Samples
from harness.measure.settings import fallen_back, settled
from harness.measure.stopping import Standing, host_bound, standing
from harness.measure.telemetry import Telemetry
from harness.measure.turns import BUSY, NOTE, admits_one_process, turns
from harness.measure.verify import Fidelity
from harness.system.errors import CellError


@dataclass(frozen=True)
class Measurement:
    """Everything measured on one quartet."""

    samples: Samples
    primary: str  # the boundary that verdicts use
    standing: Standing  # of the last block on the primary boundary
    converged: bool
    seconds: float  # from the first worker's start to the last one's end
    restarts: int
    bring_up_s: float = 0.0  # of `seconds`, until the first block; the usual recipe, where asked for, included
    loaded: Mapping[str, Loaded] = field(default_factory=dict)
    fidelity: Mapping[str, Fidelity] = field(default_factory=dict)
    warmups: Mapping[str, Warmup] = field(default_factory=dict)
    coursework_ms: Mapping[str, list[float]] = field(default_factory=dict)
    consumption: Mapping[str, Consumption] = field(default_factory=dict)
    answers: Answers | None = None  # on labelled images; None: the data has no labels
    profiles: Mapping[str, CellProfile] = field(default_factory=dict)  # by role; those that could be taken
    ceilings: Ceilings | None = None  # of the machine; None: not asked for, or they could not be measured
    telemetry: Telemetry | None = None
    note: str = ""  # what a reader of the result must know: another boundary, a chip that slowed down, ...


def measure(
    tasks: Sequence[CellTask],
    settings: ProtocolConfig,
    primary: str,
    progress: Progress,
    rebuilt: Sequence[Sequence[CellTask]] = (),
) -> Measurement:
    """Measure all cells of a quartet (1, 2 or 4) side by side; raise CellError where one can't be trusted.

    `rebuilt` holds the same cells from further builds of their engines; each build gets restarts of its own.
    """
    started = time.monotonic()
    device = tasks[0].spec.device
    settings = settled(settings, device)
    run = _Run(
        samples=Samples([task.spec.role for task in tasks], tasks[0].spec.batch_size),
        settings=settings,
        primary=primary,
        order=np.random.default_rng(settings.seed),
        progress=progress,
        fresh=admits_one_process(device),
    )
    replicas = [tasks, *rebuilt]
    restarts = -(-max(settings.restarts, len(replicas)) // len(replicas)) * len(replicas)  # the same for each build
    notes: list[str] = []
    with Telemetry(device) as telemetry:
        run.telemetry = telemetry
        done = 0
        while done < restarts:
            build = done % len(replicas)
            try:
                with run.processes(replicas[build]) as handles:
                    loaded, fidelity = bring_up(replicas[build], handles, settings, progress)
                    if not done:
                        first_loaded, first_fidelity = loaded, fidelity
                        run.primary, note = primary_boundary(primary, loaded, settings)
                        notes.append(note)
                        settings = run.settings = fallen_back(settings, primary, run.primary)
                        run.boundaries = common_boundaries(loaded)
                        run.samples.launch_bound = any(cell.no_device for cell in loaded.values())
                        coursework_ms = usual_recipe(handles, settings, progress) if settings.coursework else {}
                        warmups = warm_up(handles, settings, device, progress)
                        bring_up_s = time.monotonic() - started
                    else:
                        check_same_boundaries(run.boundaries, loaded)
                        warm_up(handles, settings, device, progress)
                    # every restart gets its part of the budget and of the blocks; bringing cells up costs none of it
                    until = time.monotonic() + settings.budget_s / restarts
                    most = math.ceil((done + 1) / restarts * settings.max_blocks)
                    now = _blocks(run, handles, done, build, until, most)
                    if not done:
                        consumed = _consumption(run, handles)
                        answers = answer(replicas[build], handles, settings, progress)
                        profiles, no_why = _profiles(run, handles)
                        # last: it takes memory, and its worker may end
                        ceilings, no_ceilings = _ceilings(run, handles, device)
            except CellError as error:
                if run.fresh or run.samples.blocks or BUSY not in str(error):
                    raise
                run.fresh = True  # no block is complete yet: begin anew, one process at a time
                run.samples.forget_visits()
                notes.clear()
                continue
            done += 1
            if done == 1 and run.primary != "device" and not run.fresh and host_bound(run.samples):
                # such a cell keeps one of several modes for as long as its process lives: only fresh ones tell
                restarts = max(restarts, settings.host_bound_restarts)
    notes += [NOTE if run.fresh else "", telemetry.blind, no_why, no_ceilings, _unsteady(warmups), _slowed(run.samples)]
    return Measurement(
        samples=run.samples,
        primary=run.primary,
        standing=now,
        converged=now.converged(settings),
        seconds=time.monotonic() - started,
        restarts=len(set(run.samples.groups)),
        bring_up_s=bring_up_s,
        loaded=first_loaded,
        fidelity=first_fidelity,
        warmups=warmups,
        coursework_ms=coursework_ms,
        consumption=consumed,
        answers=answers,
        profiles=profiles,
        ceilings=ceilings,
        telemetry=telemetry,
        note="; ".join(note for note in notes if note),
    )


def _unsteady(warmups: Mapping[str, Warmup]) -> str:
    roles = [role for role, found in warmups.items() if not found.steady]
    return f"{', '.join(roles)}: no steady state within the warm-up's time" if roles else ""


def _slowed(samples: Samples) -> str:
    slowed = f"{samples.slowed} of {samples.blocks} blocks measured on a chip that was slowing down"
    return slowed if samples.slowed else ""


def _consumption(run: _Run, handles: Mapping[str, Handle]) -> dict[str, Consumption]:
    run.progress.stage("energy and memory")
    return consumption(_held(handles), run.samples.batch_size, run.settings, run.telemetry)


def _profiles(run: _Run, handles: Mapping[str, Handle]) -> tuple[dict[str, CellProfile], str]:
    """Return where each cell's batch spends its time, one cell after the other, and why not where that failed."""
    found: dict[str, CellProfile] = {}
    without: dict[str, list[str]] = {}  # the cells by the reason: often one, and the same for all of them
    if run.settings.why:
        run.progress.stage("profiles")
        for role, handle in _held(handles).items():
            try:
                found[role] = handle.ask("why", None, run.settings.worker_timeout_s)
            except CellError as error:  # no reason to lose a quartet that is measured
                without.setdefault(str(error).removeprefix(f"{role}: "), []).append(role)
    return found, "; ".join(f"no profile of {', '.join(roles)}: {reason}" for reason, roles in without.items())


def _ceilings(run: _Run, handles: Mapping[str, Handle], device: str) -> tuple[Ceilings | None, str]:
    """Return what the machine can at most, measured in the first cell's process while all others wait, or why not."""
    held = list(_held(handles).values())
    if not run.settings.ceilings:
        return None, ""
    if not held:
        return None, "no ceilings of the machine: no process stays to measure them in"
    run.progress.stage("ceilings of the machine")
    try:
        found: Ceilings = held[0].ask("ceilings", SIZES[device], run.settings.worker_timeout_s)
    except CellError as error:  # too little memory, say: no reason to lose a quartet that is measured
        return None, f"no ceilings of the machine: {error}"
    return found, ""


def _held(handles: Mapping[str, Handle]) -> dict[str, Worker]:
    """Return the cells whose process lives on: none of those that have one for each command."""
    return {role: handle for role, handle in handles.items() if isinstance(handle, Worker)}


@dataclass
class _Run:
    """What all restarts of one measurement share."""

    samples: Samples
    settings: ProtocolConfig
    primary: str
    order: np.random.Generator
    progress: Progress
    fresh: bool  # a process for each visit
    telemetry: Telemetry = field(init=False)
    boundaries: tuple[str, ...] = ()

    def processes(self, tasks: Sequence[CellTask]) -> AbstractContextManager[Mapping[str, Handle]]:
        """Return the processes of one restart, still to be entered."""
        specs = [task.spec for task in tasks]
        return turns(specs) if self.fresh else workers(specs)


def _blocks(run: _Run, handles: Mapping[str, Handle], restart: int, build: int, until: float, most: int) -> Standing:
    """Measure blocks until the criterion holds, or the time `until` or `most` blocks in all are reached."""
    roles, samples, settings = list(handles), run.samples, run.settings
    first = samples.blocks
    last = roles[-1]  # was warmed up last
    turn = (run.boundaries, settings.ramp_iterations, settings.slice_s)
    while True:
        block, slowed = samples.blocks, False
        restart = block if run.fresh else restart
        visits = _order(roles, last, run.order)
        last = visits[-1]
        for position, role in enumerate(visits):
            began = time.monotonic()
            samples.add(role, restart, block, position, handles[role].ask("slice", turn, settings.worker_timeout_s))
            slowed = run.telemetry.read(role, restart, block, time.monotonic() - began) or slowed
        spent = time.monotonic() >= until
        if slowed and not spent:  # past the budget it is kept, and told, or a hot chip would never end
            samples.discard_block()
            continue
        samples.close_block(restart, slowed, build)
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

    On a GPU a cell that ran twice in a row was slower by 1.3% than after another process: see
    experiments/aa_h200_first_order.
    """
    while True:
        order = [roles[index] for index in generator.permutation(len(roles))]
        if len(roles) == 1 or order[0] != last:
            return order

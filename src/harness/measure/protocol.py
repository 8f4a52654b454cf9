"""How a quartet is measured: verified first, warmed up, then interleaved blocks until the interval is narrow enough.

A block visits every cell once in a fresh random order. A restart is measured in fresh processes. The first restart goes
on until the criterion holds or its share of the budget is spent; the others measure as many blocks, for restarts count
equally.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import numpy as np

from harness.config import ProtocolConfig
from harness.engines.profiling import CellProfile
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
from harness.measure.coordinator import Handle, Worker, workers
from harness.measure.progress import Progress
from harness.measure.references import QuartetPredictions, answer
from harness.measure.samples import Samples
from harness.measure.settings import fallen_back, resolve_protocol
from harness.measure.stopping import Standing, host_bound, is_look, standing
from harness.measure.telemetry import Consumption, Telemetry, consumption
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
    answers: QuartetPredictions | None = None  # on labelled images; None: the data has no labels
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
    device = tasks[0].spec.device
    run = _QuartetRun(
        replicas=[tasks, *rebuilt],
        device=device,
        settings=resolve_protocol(settings, device),
        planned=primary,
        progress=progress,
        fresh=admits_one_process(device),
        samples=Samples([task.spec.role for task in tasks], tasks[0].spec.batch_size),
        order=np.random.default_rng(settings.seed),
    )
    with Telemetry(device) as run.telemetry:
        run.all_restarts()
    return run.measurement()


@dataclass
class _QuartetRun:
    """One measurement: what its restarts share, and what they have found so far."""

    replicas: Sequence[Sequence[CellTask]]  # the cells, from each build of their engines
    device: str
    settings: ProtocolConfig
    planned: str  # the boundary that verdicts were to use
    progress: Progress
    fresh: bool  # a process for each visit
    samples: Samples
    order: np.random.Generator
    started: float = field(default_factory=time.monotonic)
    telemetry: Telemetry = field(init=False)
    standing: Standing = field(init=False)  # of the last block

    # found once, in the first restart
    primary: str = ""
    boundaries: tuple[str, ...] = ()
    loaded: Mapping[str, Loaded] = field(default_factory=dict)
    fidelity: Mapping[str, Fidelity] = field(default_factory=dict)
    warmups: Mapping[str, Warmup] = field(default_factory=dict)
    coursework_ms: Mapping[str, list[float]] = field(default_factory=dict)
    bring_up_s: float = 0.0
    consumption: Mapping[str, Consumption] = field(default_factory=dict)
    answers: QuartetPredictions | None = None
    profiles: Mapping[str, CellProfile] = field(default_factory=dict)
    ceilings: Ceilings | None = None
    restarts: int = 1  # how many are to be measured
    first_blocks: int = 0  # of the first restart
    blocks_s: float = 0.0  # spent on blocks so far, of all restarts: what the budget is for
    moved: str = ""  # why the primary boundary is not the planned one
    cut: str = ""  # why there were fewer restarts than planned
    no_why: str = ""
    no_ceilings: str = ""

    def all_restarts(self) -> None:
        """Measure as many restarts as the settings ask for, the same number for each build."""
        builds = len(self.replicas)
        done, self.restarts = 0, math.ceil(max(self.settings.restarts, builds) / builds) * builds
        while done < self.restarts:
            if done and not self.affords_another(done):
                self.cut = f"{done} of {self.restarts} restarts: protocol.budget_s was spent"
                return
            try:
                self.restart(done)
            except CellError as error:
                if self.fresh or self.samples.blocks or BUSY not in str(error):
                    raise
                self.fresh = True  # no block is complete yet: begin anew, one process at a time
                self.samples.forget_visits()
                continue
            done += 1

    def affords_another(self, done: int) -> bool:
        """Whether the budget has room for the fewest blocks of one more restart than the user asked for."""
        block_s = self.blocks_s / max(1, self.samples.blocks)
        requested = max(self.settings.restarts, len(self.replicas))
        return done < requested or self.blocks_s + self.fewest_blocks() * block_s <= self.settings.budget_s

    def fewest_blocks(self) -> int:
        """Return how many blocks a restart has at least: together they have `min_blocks`."""
        least = min(self.settings.min_blocks, self.settings.max_blocks)
        return max(min(2, least), math.ceil(least / self.restarts))

    def restart(self, number: int) -> None:
        """Bring up fresh processes and measure blocks in them; the first restart also takes what is taken once."""
        build = number % len(self.replicas)
        tasks = self.replicas[build]
        with self.processes(tasks) as handles:
            loaded, fidelity = bring_up(tasks, handles, self.settings, self.progress)
            if number == 0:
                self.begin(handles, loaded, fidelity)
            else:
                check_same_boundaries(self.boundaries, loaded)
                warm_up(handles, self.settings, self.device, self.progress)
            self.blocks(handles, number, build)  # bringing cells up costs none of the budget
            if number == 0:
                self.conclude(handles, tasks)

    def processes(self, tasks: Sequence[CellTask]) -> AbstractContextManager[Mapping[str, Handle]]:
        """Return the processes of one restart, still to be entered."""
        specs = [task.spec for task in tasks]
        return turns(specs) if self.fresh else workers(specs)

    def begin(self, handles: Mapping[str, Handle], loaded: dict[str, Loaded], fidelity: dict[str, Fidelity]) -> None:
        """Decide on which boundaries all restarts are measured, from the first one's cells; warm those up."""
        self.loaded, self.fidelity = loaded, fidelity
        self.primary, self.moved = primary_boundary(self.planned, loaded, self.settings)
        self.settings = fallen_back(self.settings, self.planned, self.primary)
        self.boundaries = common_boundaries(loaded)
        self.samples.launch_bound = any(cell.no_device for cell in loaded.values())
        if self.settings.coursework:
            self.coursework_ms = usual_recipe(handles, self.settings, self.progress)
        self.warmups = warm_up(handles, self.settings, self.device, self.progress)
        self.bring_up_s = time.monotonic() - self.started

    def blocks(self, handles: Mapping[str, Handle], number: int, build: int) -> None:
        """Measure the blocks of one restart."""
        roles, samples = list(handles), self.samples
        first, before_s, started = samples.blocks, self.blocks_s, time.monotonic()
        last = roles[-1]  # was warmed up last
        while True:
            visits = _order(roles, last, self.order)
            last = visits[-1]
            restart = samples.blocks if self.fresh else number
            slowed = self.visit(handles, visits, restart)
            self.blocks_s = before_s + time.monotonic() - started
            share_s = (self.settings.budget_s - before_s) / max(1, self.restarts - number)
            spent = self.blocks_s - before_s >= share_s
            if slowed and not spent:  # past the budget it is kept, and told, or a hot chip would never end
                samples.discard_block()
                continue
            samples.close_block(restart, slowed, build)
            self.standing = standing(samples, self.primary, self.settings)
            self.progress.block(self.standing)
            if self.is_done(number, samples.blocks - first, spent):
                return

    def is_done(self, number: int, blocks: int, spent: bool) -> bool:
        """Whether a restart has blocks enough; the first one also finds out how many restarts there are to be."""
        settings = self.settings
        if number == 0 and blocks == min(settings.min_blocks, settings.max_blocks):
            self.ask_for_restarts()
        over = spent or self.samples.blocks >= math.ceil((number + 1) / self.restarts * settings.max_blocks)
        if number > 0:
            over = over or blocks >= self.first_blocks
            return over and blocks >= self.fewest_blocks()
        self.first_blocks = blocks
        enough = is_look(blocks, settings.min_blocks) and self.standing.enough(settings)
        # a verdict needs replicates: the minimum of blocks is measured even where the budget is too small for it
        return enough or (over and blocks >= self.fewest_blocks())

    def ask_for_restarts(self) -> None:
        """Plan more restarts where a cell waits for its host and the verdict is not the device's.

        Such a cell keeps one of several modes for as long as its process lives: only fresh ones tell.
        """
        if self.primary != "device" and not self.fresh and host_bound(self.samples):
            wanted = max(self.restarts, self.settings.host_bound_restarts)
            self.restarts = math.ceil(wanted / len(self.replicas)) * len(self.replicas)

    def visit(self, handles: Mapping[str, Handle], visits: Sequence[str], restart: int) -> bool:
        """Time each cell once, in the order of `visits`; return whether the chip was slowing down."""
        block, slowed = self.samples.blocks, False
        turn = (self.boundaries, self.settings.ramp_iterations, self.settings.slice_s)
        for position, role in enumerate(visits):
            began = time.monotonic()
            timed = handles[role].ask("slice", turn, self.settings.worker_timeout_s)
            self.samples.add(role, restart, block, position, timed)
            slowed = self.telemetry.read(role, restart, block, time.monotonic() - began) or slowed
        return slowed

    def conclude(self, handles: Mapping[str, Handle], tasks: Sequence[CellTask]) -> None:
        """Take what no time is taken of, after the timed blocks, so that it disturbs none of them."""
        held = {role: handle for role, handle in handles.items() if isinstance(handle, Worker)}  # that live on
        self.progress.stage("energy and memory")
        self.consumption = consumption(held, self.samples.batch_size, self.settings, self.telemetry)
        self.answers = answer(tasks, handles, self.settings, self.progress)
        if self.settings.why:
            self.progress.stage("profiles")
            self.profiles, self.no_why = _profiles(held, self.settings.worker_timeout_s)
        if self.settings.ceilings:  # last: it takes memory, and its worker may end
            self.progress.stage("ceilings of the machine")
            self.ceilings, self.no_ceilings = _ceilings(held, self.device, self.settings.worker_timeout_s)

    def measurement(self) -> Measurement:
        """Return all that was found."""
        samples = self.samples
        notes = [
            self.moved,
            self.cut,
            NOTE if self.fresh else "",
            self.telemetry.blind,
            self.no_why,
            self.no_ceilings,
            _unsteady(self.warmups),
            f"{samples.slowed} of {samples.blocks} blocks measured on a chip that was slowing down"
            if samples.slowed
            else "",
        ]
        return Measurement(
            samples=samples,
            primary=self.primary,
            standing=self.standing,
            converged=self.standing.converged(self.settings),
            seconds=time.monotonic() - self.started,
            restarts=len(set(samples.groups)),
            bring_up_s=self.bring_up_s,
            loaded=self.loaded,
            fidelity=self.fidelity,
            warmups=self.warmups,
            coursework_ms=self.coursework_ms,
            consumption=self.consumption,
            answers=self.answers,
            profiles=self.profiles,
            ceilings=self.ceilings,
            telemetry=self.telemetry,
            note="; ".join(note for note in notes if note),
        )


def _order(roles: Sequence[str], last: str, generator: np.random.Generator) -> list[str]:
    """Return a random order of the cells that does not begin with the one that ran last.

    On a GPU a cell that ran twice in a row was slower by 1.3% than after another process: see
    experiments/aa_h200_first_order.
    """
    while True:
        order = [roles[index] for index in generator.permutation(len(roles))]
        if len(roles) == 1 or order[0] != last:
            return order


def _profiles(held: Mapping[str, Worker], timeout_s: float) -> tuple[dict[str, CellProfile], str]:
    """Return where each cell's batch spends its time, one cell after the other, and why not where that failed."""
    found: dict[str, CellProfile] = {}
    without: dict[str, list[str]] = {}  # the cells by the reason: often one, and the same for all of them
    for role, handle in held.items():
        try:
            found[role] = handle.ask("why", None, timeout_s)
        except CellError as error:  # no reason to lose a quartet that is measured
            without.setdefault(str(error).removeprefix(f"{role}: "), []).append(role)
    return found, "; ".join(f"no profile of {', '.join(roles)}: {reason}" for reason, roles in without.items())


def _ceilings(held: Mapping[str, Worker], device: str, timeout_s: float) -> tuple[Ceilings | None, str]:
    """Return what the machine can at most, measured in the first cell's process while all others wait, or why not."""
    if not held:
        return None, "no ceilings of the machine: no process stays to measure them in"
    try:
        found: Ceilings = next(iter(held.values())).ask("ceilings", SIZES[device], timeout_s)
    except CellError as error:  # too little memory, say: no reason to lose a quartet that is measured
        return None, f"no ceilings of the machine: {error}"
    return found, ""


def _unsteady(warmups: Mapping[str, Warmup]) -> str:
    roles = [role for role, found in warmups.items() if not found.steady]
    return f"{', '.join(roles)}: no steady state within the warm-up's time" if roles else ""

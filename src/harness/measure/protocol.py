"""How a design is measured: verified first, warmed up, then interleaved blocks until each quartet's interval is narrow.

On the device boundary a block visits every cell once, in orders in which each cell follows each other equally often;
the quartets are contrasts over the same visits. Elsewhere the host's noise is correlated over seconds, so the four
cells of a quartet are visited in a row. The other boundaries are timed in a separate pass, in every second block: a
cell launched kernel by kernel slows down the replay that comes after it.

A restart is measured in fresh processes. The first restart goes on until the criterion holds or its share of the budget
is spent; the others measure as many blocks, because restarts count equally. A quartet is handed over as soon
as it has all its blocks, and its cells leave the rounds unless another quartet needs them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import numpy as np

from harness.config import ProtocolConfig
from harness.measure.bring_up import bring_up, unsteady, usual_recipe, verified, warm_up_cell
from harness.measure.ceilings import Ceilings
from harness.measure.cell import Cell, CellResult, Loaded, Turn, Warmup
from harness.measure.coordinator import BUSY, ONE_AT_A_TIME, Handle, Worker, admits_one_process, turns, workers
from harness.measure.design import (
    Contrast,
    Design,
    Orders,
    alone,
    cells_of,
    cells_that_fit,
    first_part,
    remaining_s,
    samples_of,
    set_aside,
)  # fmt: skip
from harness.measure.inspection import Inspections
from harness.measure.progress import Progress
from harness.measure.samples import Samples
from harness.measure.settings import resolve_protocol
from harness.measure.stopping import Standing
from harness.measure.telemetry import Telemetry
from harness.measure.verify import Fidelity
from harness.system.counts import counted
from harness.system.errors import CellError

SECONDARY_EVERY = 2  # blocks


@dataclass(frozen=True)
class Measurement:
    """Everything measured on one quartet."""

    samples: Samples
    primary: str  # the boundary that verdicts use
    standing: Standing  # of the last block on the primary boundary
    converged: bool
    seconds: float  # from the first worker's start to the quartet's end, those of its whole design
    restarts: int
    bring_up_s: float = 0.0  # of `seconds`, until the first block; the usual recipe, if requested, included
    side_by_side: tuple[int, int] = (1, 4)  # quartets and cells that those seconds were shared by
    cells: Mapping[str, CellResult] = field(default_factory=dict)  # by role
    ceilings: Ceilings | None = None  # of the machine; None: not requested, or they could not be measured
    telemetry: Telemetry | None = None
    note: str = ""  # what a reader of the result must know: another boundary, a chip that slowed down, ...


Ended = Callable[[int, Measurement | CellError], None]  # a quartet's number, and what was found or why nothing was


def measure(
    cells: Sequence[Cell],
    settings: ProtocolConfig,
    primary: str,
    progress: Progress,
    rebuilt: Sequence[Sequence[Cell]] = (),
) -> Measurement:
    """Measure all cells of one quartet (1, 2 or 4) side by side; raise CellError where one can't be trusted.

    `rebuilt` holds the same cells from further builds of their engines; each build gets restarts of its own.
    """
    found: list[Measurement | CellError] = []
    measure_design(alone([cells, *rebuilt]), settings, primary, progress, lambda _, result: found.append(result))
    (result,) = found
    if isinstance(result, CellError):
        raise result
    return result


def measure_design(
    design: Design, settings: ProtocolConfig, primary: str, progress: Progress, ended: Ended, family: int = 1
) -> None:
    """Measure all quartets of a design side by side; call `ended` for each of them, as soon as it has ended.

    Where memory does not hold all cells they are measured in parts. A cell that fails costs the quartets that need it.
    `family` is how many quartets the whole sweep has.
    """
    todo, most_cells = list(range(len(design.quartets))), None
    while todo:
        run = _DesignRun(design, todo, settings, primary, progress, ended, family, most_cells)
        with Telemetry(run.device) as run.telemetry:
            run.all_restarts()
        todo, most_cells = run.postponed, run.most_cells


class _CellFailed(Exception):
    """A cell failed in the middle of a block, and the failure was reported."""


class _DesignRun:
    """The measurement of some quartets of a design: what their restarts share, and what they have found so far."""

    def __init__(
        self,
        design: Design,
        numbers: Sequence[int],
        settings: ProtocolConfig,
        planned: str,
        progress: Progress,
        ended: Ended,
        family: int,
        most_cells: int | None,
    ) -> None:
        part = design.part(numbers)
        self.builds, self.device, self.planned = part.builds, next(iter(part.builds[0].values())).device, planned
        self.settings = resolve_protocol(settings, self.device)
        self.progress, self._ended = progress, ended
        self.most_cells = most_cells  # that the machine holds; None: not known yet
        self.postponed: list[int] = []
        self.fresh = admits_one_process(self.device)  # a process for each visit
        self.random = np.random.default_rng(self.settings.seed)
        self.contrasts = [
            Contrast(number, cells, self.settings, samples_of(cells, part.builds[0]), len(self.builds), family=family)
            for number, cells in zip(numbers, part.quartets, strict=True)
        ]
        self._orders: dict[tuple[int, bool], Orders] = {}  # by group, and for the second pass
        self.telemetry: Telemetry
        self.inspections: Inspections
        self.started, self.bring_up_s = time.monotonic(), 0.0
        self.blocks_s = 0.0  # spent on blocks so far, of all restarts: what the budget is for
        self.handles: dict[str, Handle] = {}  # of this restart, by the cell's name
        self.cells: Mapping[str, Cell] = {}  # of this restart's build
        self.last = ""  # the cell that was visited last
        # found once, in the first restart, by the cell's name
        self.fidelity: dict[str, Fidelity] = {}
        self.warmups: dict[str, Warmup] = {}
        self.coursework_ms: dict[str, list[float]] = {}

    def open(self) -> list[Contrast]:
        """Return the quartets that are neither measured nor failed."""
        return [contrast for contrast in self.contrasts if not contrast.ended]

    def all_restarts(self) -> None:
        """Measure as many restarts as the quartets ask for."""
        self.inspections = Inspections(
            self.settings, self.device, self.contrasts[0].samples.batch_size, self.progress, self.telemetry,
            dtypes={each.plan.precision.dtype for cell in self.builds[0].values() for each in cell.artifacts},
        )  # fmt: skip
        number = 0
        while self.open():
            if number and not self.affords_another(number):
                for contrast in self.open():
                    contrast.cut = f"{number} of {counted(contrast.restarts, 'restart')}: protocol.budget_s was spent"
                    self.hand_over(contrast)
                return
            try:
                self.restart(number)
            except CellError as error:
                if self.fresh or BUSY not in str(error) or any(contrast.samples.blocks for contrast in self.contrasts):
                    raise
                self.fresh = True  # no block is complete yet: begin anew, one process at a time
                for contrast in self.contrasts:
                    contrast.samples.forget_visits()
                continue
            number += 1

    @property
    def budget_s(self) -> float:
        """For the blocks of all quartets together."""
        measured = sum(not contrast.ended or contrast.samples.blocks > 0 for contrast in self.contrasts)
        return self.settings.budget_s * measured

    def affords_another(self, done: int) -> bool:
        """Whether the budget has room for the fewest blocks of one more restart than the user requested."""
        blocks = max(contrast.samples.blocks for contrast in self.open())
        needed_s = max(contrast.fewest_blocks() for contrast in self.open()) * self.blocks_s / max(1, blocks)
        return done < max(self.settings.restarts, len(self.builds)) or self.blocks_s + needed_s <= self.budget_s

    def restart(self, number: int) -> None:
        """Bring up fresh processes and measure blocks in them; the first restart also takes what is taken once."""
        build = number % len(self.builds)
        names = cells_of([contrast.cells for contrast in self.open()])
        self.cells = {name: self.builds[build][name] for name in names}
        with self.processes() as handles:
            self.handles = dict(handles)
            self.bring_up(number)
            self.blocks(number, build)  # bringing cells up costs none of the budget
            if number == 0 and self.open():  # later restarts have processes of their own
                self.inspect(self.open(), staying=())
            elif self.open():
                self.check_outputs(list(self.cells.values()))

    def processes(self) -> AbstractContextManager[Mapping[str, Handle]]:
        """Return the processes of one restart, still to be entered."""
        cells = list(self.cells.values())
        return turns(cells) if self.fresh else workers(cells)

    def bring_up(self, number: int) -> None:
        """Load, verify and warm up the cells; postpone the quartets that memory does not hold."""
        loaded = self._load_what_fits()
        for contrast in self.open():
            try:
                contrast.begin(self.planned, loaded) if number == 0 else contrast.check_again(loaded)
            except CellError as error:
                self.fail(contrast, str(error))
        self._let_go()
        for name in list(self.handles):
            if name in self.handles:  # else the quartets that needed it have failed meanwhile
                self._prepare(name, number)
                self.last = name
        if number == 0:
            self.bring_up_s = time.monotonic() - self.started

    def _load_what_fits(self) -> dict[str, Loaded]:
        """Load and verify as many cells as the machine can hold, estimated from one quartet's."""
        if self.most_cells is not None:  # from an earlier restart, or an earlier part of the design
            self._postpone(self.most_cells)
        counted = list(self.open()[0].cells.values())
        if self.fresh or self.most_cells is not None or len(self.handles) <= len(counted):
            return self._load(list(self.handles))
        before_mb = self.telemetry.memory_mb()
        loaded = self._load(counted)
        live = [handle for name in loaded if isinstance(handle := self.handles[name], Worker)]
        self.most_cells = cells_that_fit(live, before_mb, self.telemetry.memory_mb())
        self._postpone(self.most_cells)
        return loaded | self._load([name for name in self.handles if name not in counted])

    def _load(self, names: Sequence[str]) -> dict[str, Loaded]:
        """Load and verify cells."""
        cells = [self.cells[name] for name in names]
        loaded, fidelity = bring_up(cells, self.handles, self.settings, self.progress, self.cell_failed)
        self.fidelity = fidelity | self.fidelity
        return loaded

    def _prepare(self, name: str, number: int) -> None:
        """Warm up a cell; in the first restart after the usual recipe, if requested."""
        try:
            if number == 0 and self.settings.coursework:
                found = usual_recipe(name, self.handles[name], self.settings, self.progress)
                self.coursework_ms[name] = found
            warmup = warm_up_cell(name, self.handles[name], self.settings, self.device, self.progress)
            self.warmups.setdefault(name, warmup)
            for contrast in (shared for shared in self.open() if name in shared.roles):
                contrast.samples.warmed_ms[contrast.roles[name]] = 1e3 * warmup.seconds / max(1, warmup.iterations)
        except CellError as error:
            self.cell_failed(name, error)
            self._let_go()

    def _postpone(self, most_cells: int) -> None:
        """Leave the quartets for another time whose cells would be more than the machine holds."""
        waiting = self.open()
        now = first_part([contrast.cells for contrast in waiting], most_cells)
        for number, contrast in enumerate(waiting):
            if number not in now:
                contrast.ended = True
                self.postponed.append(contrast.number)
        self.contrasts = [contrast for contrast in self.contrasts if contrast.number not in self.postponed]
        self._let_go()

    def _let_go(self) -> None:
        """End the processes of cells that no open quartet needs."""
        needed = cells_of([contrast.cells for contrast in self.open()])
        for name in [name for name in self.handles if name not in needed]:
            handle = self.handles.pop(name)
            if isinstance(handle, Worker):
                handle.kill()

    def blocks(self, number: int, build: int) -> None:
        """Measure the blocks of one restart."""
        before_s = self.blocks_s
        for contrast in self.open():
            contrast.blocks, contrast.resting = 0, False
        while groups := list(self.groups()):
            for group in groups:
                if any(contrast.ended for contrast in group):  # a cell of theirs failed in this round
                    continue
                try:
                    self.block(group, number, build, before_s)
                except _CellFailed:
                    for contrast in group:
                        contrast.samples.forget_visits()
                    self._let_go()
            self.settle(number)

    def groups(self) -> Iterator[list[Contrast]]:
        """Yield the quartets that are measured on the same visits: all on the device, one at a time elsewhere."""
        busy = [contrast for contrast in self.open() if not contrast.resting]
        together = [contrast for contrast in busy if contrast.primary == "device"]
        if together:
            yield together
        separate = [[contrast] for contrast in busy if contrast.primary != "device"]
        for index in self.random.permutation(len(separate)) if len(separate) > 1 else range(len(separate)):
            yield separate[index]

    def block(self, group: Sequence[Contrast], number: int, build: int, before_s: float) -> None:
        """Visit the cells of a group once, and close the block of each of its quartets."""
        began = time.monotonic()
        slowed = self.visit(group, number)
        if set_aside(group):  # not of the budget, which a stall may be longer than
            return
        self.blocks_s += time.monotonic() - began
        restarts = max(contrast.restarts for contrast in self.open())
        share_s = (self.budget_s - before_s) / max(1, restarts - number)
        spent = self.blocks_s - before_s >= share_s
        if slowed and not spent:  # past the budget it is kept and reported, or a hot chip would never end
            for contrast in group:
                contrast.samples.discard_block()
            return
        for contrast in group:
            restart = contrast.samples.blocks if self.fresh else number
            found = contrast.close_block(restart, slowed, build)
            self.progress.block(found, remaining_s(self.contrasts, self.blocks_s, self.budget_s - self.blocks_s))
            contrast.resting = contrast.has_enough(number, spent, self.fresh)

    def settle(self, number: int) -> None:
        """Hand over the quartets that have all their blocks; after a round, so that they share the inspections."""
        done = [contrast for contrast in self.open() if contrast.resting and number + 1 >= contrast.restarts]
        if not done:
            return
        self.inspect(done, cells_of([contrast.cells for contrast in self.open() if not contrast.resting]))
        for contrast in done:
            if not contrast.ended:  # by an inspection that failed
                self.hand_over(contrast)
        self._let_go()
        self._stir()

    def _stir(self) -> None:
        """Run the cells that stay once, untimed: a chip that waited has cooled, and the next visits would be faster."""
        if self.device == "cpu" or self.fresh:
            return
        busy = [contrast for contrast in self.open() if not contrast.resting]
        primary = {name: contrast.primary for contrast in busy for name in contrast.cells.values()}
        for name, boundary in primary.items():
            turn = Turn((boundary,), self.settings.ramp_iterations, self.settings.slice_s)
            try:
                self.handles[name].ask("slice", turn, self.settings.worker_timeout_s)
            except CellError as error:
                self.cell_failed(name, error)
        self._let_go()

    def visit(self, group: Sequence[Contrast], number: int) -> bool:
        """Time each cell once on the primary boundary, then on the others; return whether the chip was slowing down."""
        cells, primary = cells_of([contrast.cells for contrast in group]), group[0].primary
        others = {
            name: tuple(
                boundary
                for contrast in group
                if name in contrast.cells.values()
                for boundary in contrast.boundaries
                if boundary != primary
            )
            for name in cells
        }
        slowed = False
        if self.fresh:  # a visit is dear
            return self._pass(group, {name: (primary, *dict.fromkeys(others[name])) for name in cells}, number)
        slowed = self._pass(group, dict.fromkeys(cells, (primary,)), number)
        second = {name: tuple(dict.fromkeys(found)) for name, found in others.items() if found}
        if second and group[0].blocks % SECONDARY_EVERY == 0:
            slowed = self._pass(group, second, number, secondary=True) or slowed
        return slowed

    def _pass(
        self,
        group: Sequence[Contrast],
        boundaries: Mapping[str, tuple[str, ...]],
        number: int,
        secondary: bool = False,
    ) -> bool:
        """Visit each cell once, in a balanced random order."""
        key = -1 if group[0].primary == "device" else group[0].number
        orders = self._orders.setdefault((key, secondary), Orders(self.random))
        settings, batch = self.settings, group[0].blocks // (SECONDARY_EVERY if secondary else 1)
        previous, slowed = "", False
        for position, name in enumerate(orders.draw(list(boundaries), self.last)):
            turn = Turn(boundaries[name], settings.ramp_iterations, settings.slice_s, batch)
            began = time.monotonic()
            try:
                timed = self.handles[name].ask("slice", turn, settings.worker_timeout_s)
            except CellError as error:
                self.cell_failed(name, error)
                raise _CellFailed from None
            visit_s = time.monotonic() - began
            for contrast in group:
                if name in contrast.roles:
                    block = contrast.samples.blocks
                    restart = block if self.fresh else number
                    before = contrast.roles.get(previous, previous)
                    contrast.samples.add(contrast.roles[name], restart, block, position, timed, before)
            block = group[0].samples.blocks
            quartets = frozenset(contrast.number for contrast in group)
            slowed = self.telemetry.read(name, block if self.fresh else number, block, visit_s, quartets) or slowed
            previous = self.last = name
        return slowed

    def inspect(self, contrasts: Sequence[Contrast], staying: Sequence[str]) -> None:
        """Take what no time is taken of, after the timed blocks; a cell that can't give it costs its quartets."""
        cells = [self.cells[name] for name in cells_of([contrast.cells for contrast in contrasts])]
        self.check_outputs(cells)
        self.inspections.inspect([cell for cell in cells if cell.name in self.handles], self.handles, staying)
        for name, error in self.inspections.failed.items():
            self.cell_failed(name, error)
        if self.inspections.failed:
            self._let_go()

    def check_outputs(self, cells: Sequence[Cell]) -> None:
        """Verify the cells once more: what was timed must still compute what it did before the first block."""
        for cell in cells:
            name = cell.name
            if isinstance(self.handles.get(name), Worker):
                self.progress.stage("verify again", name)
                try:
                    verified(cell, self.handles[name], self.settings)
                except CellError as error:
                    reason = str(error).removeprefix(f"{name}: ")
                    self.cell_failed(name, CellError(f"{name}: after the timed blocks: {reason}"))
        self._let_go()

    def cell_failed(self, name: str, error: CellError) -> None:
        """End the quartets that need a cell, and its process; raise the error where the GPU has no room for another."""
        unmeasured = not any(contrast.samples.blocks for contrast in self.contrasts)
        if not self.fresh and unmeasured and BUSY in str(error):
            raise error
        for contrast in self.open():
            if name in contrast.roles:
                reason = str(error).removeprefix(f"{name}: ")
                self.fail(contrast, f"{contrast.roles[name]}: {reason}")

    def fail(self, contrast: Contrast, reason: str) -> None:
        """End a quartet that can't be measured."""
        contrast.ended = True
        self._ended(contrast.number, CellError(reason))

    def hand_over(self, contrast: Contrast) -> None:
        """End a quartet that has been measured."""
        contrast.ended = True
        self._ended(contrast.number, self.measurement(contrast))

    def measurement(self, contrast: Contrast) -> Measurement:
        """Return all that was found of a quartet."""
        found, cells, samples = self.inspections, contrast.cells, contrast.samples
        assert contrast.standing is not None
        notes = [
            contrast.moved,
            contrast.cut,
            ONE_AT_A_TIME if self.fresh else "",
            self.telemetry.blind,
            found.lacking(contrast.roles),
            found.no_ceilings,
            unsteady({role: self.warmups[name] for role, name in cells.items()}),
            f"{samples.slowed} of {counted(samples.blocks, 'block')} measured on a chip that was slowing down"
            if samples.slowed
            else "",
            samples.stall_note,
        ]
        return Measurement(
            samples=samples,
            primary=contrast.primary,
            standing=contrast.standing,
            converged=contrast.standing.converged(contrast.settings),
            seconds=time.monotonic() - self.started,
            restarts=len(set(samples.groups)),
            bring_up_s=self.bring_up_s,
            side_by_side=(len(self.contrasts), len(cells_of([contrast.cells for contrast in self.contrasts]))),
            cells={role: self.result(name, contrast.loaded[role]) for role, name in cells.items()},
            ceilings=found.ceilings,
            telemetry=self.telemetry.of(contrast.roles, contrast.number),
            note="; ".join(note for note in notes if note),
        )

    def result(self, name: str, loaded: Loaded) -> CellResult:
        """Return all that was found of a cell."""
        found = self.inspections
        return CellResult(
            loaded=loaded,
            fidelity=self.fidelity[name],
            warmup=self.warmups[name],
            coursework_ms=tuple(self.coursework_ms.get(name, ())),
            consumption=found.consumption.get(name),
            answers=found.answers.get(name),
            profile=found.profiles.get(name),
        )

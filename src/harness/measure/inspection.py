"""Everything measured once per cell and not timed: energy, memory, answers, profile; and the machine's ceilings.

A process that was profiled, or that ran eager beside its engine, is never timed again. A cell that is still needed is
therefore inspected in a second process, and its first process continues to be timed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from harness.config import ProtocolConfig
from harness.engines.profiling import CellProfile
from harness.measure.ceilings import SIZES, Ceilings
from harness.measure.cell import Cell, CellAnswers
from harness.measure.coordinator import Handle, Worker, workers
from harness.measure.predictions import answers_of
from harness.measure.progress import Progress
from harness.measure.telemetry import Consumption, Telemetry, consumption
from harness.system.errors import CellError
from harness.system.machine import usable_cores

SECOND_PROCESSES = 4  # at once on a GPU beside the cells that are still timed; more where there are cores for more


@dataclass
class Inspections:
    """What was found of each cell so far, by its name."""

    settings: ProtocolConfig
    device: str
    batch_size: int
    progress: Progress
    telemetry: Telemetry
    dtypes: Collection[str]  # that any of the cells computes in
    consumption: dict[str, Consumption] = field(default_factory=dict)
    answers: dict[str, CellAnswers] = field(default_factory=dict)
    profiles: dict[str, CellProfile] = field(default_factory=dict)
    no_profile: dict[str, str] = field(default_factory=dict)  # why not
    no_answers: dict[str, str] = field(default_factory=dict)  # why not, where that is not the cell's own fault
    ceilings: Ceilings | None = None
    no_ceilings: str = ""
    failed: dict[str, CellError] = field(default_factory=dict)  # cells that could not do what they must
    _done: set[str] = field(default_factory=set)

    def inspect(self, cells: Sequence[Cell], handles: Mapping[str, Handle], staying: Collection[str]) -> None:
        """Inspect the cells that were not yet; those in `staying` will be timed again and are left as they are."""
        todo = [cell for cell in cells if cell.name not in self._done]
        if not todo:
            return
        self._done |= {cell.name for cell in todo}
        held = {name: handle for name, handle in handles.items() if isinstance(handle, Worker)}  # that live on
        self._consumption(todo, held)
        for cell in todo:
            self._answers(cell, handles, held, staying)
        if self.settings.why and held:
            self.progress.stage("profiles")
            # a CPU gains nothing by several, and has less memory
            at_once = max(SECOND_PROCESSES, usable_cores() // 2) if self.device == "cuda" else 1
            for start in range(0, len(todo), at_once):
                self._profiles(todo[start : start + at_once], held, staying)
        if self.settings.ceilings and self.ceilings is None:
            self._ceilings(cells, held, staying)

    def _consumption(self, todo: Sequence[Cell], held: Mapping[str, Worker]) -> None:
        self.progress.stage("energy and memory")
        for cell in todo:
            name = cell.name
            try:
                handles = {name: held[name]} if name in held else {}
                self.consumption |= consumption(handles, self.batch_size, self.settings, self.telemetry)
            except CellError as error:
                self.failed[name] = error

    def _answers(
        self,
        cell: Cell,
        handles: Mapping[str, Handle],
        held: Mapping[str, Worker],
        staying: Collection[str],
    ) -> None:
        name, is_second = cell.name, False
        with ExitStack() as stack:

            def second_process() -> Handle:
                nonlocal is_second
                if name not in held:  # each command has a process of its own anyway
                    return handles[name]
                is_second = name in staying
                return _usable(stack.enter_context(_to_spoil([cell], held, staying, self.settings))[name])

            try:
                found = answers_of(cell, handles[name], self.settings, self.progress, second_process)
            except CellError as error:
                if is_second:  # there was no room for a second process: no fault of the cell
                    self.no_answers[name] = str(error).removeprefix(f"{name}: ")
                else:
                    self.failed[name] = error
                return
        if found is not None:
            self.answers[name] = found

    def _profiles(self, cells: Sequence[Cell], held: Mapping[str, Worker], staying: Collection[str]) -> None:
        """Profile one cell after the other; second processes take many seconds to start, so they start together.

        One that did not come up beside the others (there was no room, say) is tried again when they are gone.
        """
        crowded_out = []
        with _to_spoil(cells, held, staying, self.settings) as handles:
            for cell in cells:
                name = cell.name
                if len(cells) > 1 and isinstance(handles[name], CellError):
                    crowded_out.append(cell)
                    continue
                try:
                    self.profiles[name] = _usable(handles[name]).ask("why", None, self.settings.worker_timeout_s)
                except CellError as error:  # no reason to lose a quartet that is measured
                    self.no_profile[name] = str(error).removeprefix(f"{name}: ")
        for cell in crowded_out:
            self._profiles([cell], held, staying)

    def _ceilings(self, cells: Sequence[Cell], held: Mapping[str, Worker], staying: Collection[str]) -> None:
        """Measure the machine's maximum rates; last, because it takes memory and may end a worker."""
        self.progress.stage("ceilings of the machine")
        if not held:
            self.no_ceilings = "no ceilings of the machine: no process stays to measure them in"
            return
        cell = next((cell for cell in cells if cell.name not in staying), cells[0])
        try:
            with _to_spoil([cell], held, staying, self.settings) as handles:
                handle = _usable(handles[cell.name])
                argument = (*SIZES[self.device], tuple(sorted(self.dtypes)))
                self.ceilings = handle.ask("ceilings", argument, self.settings.worker_timeout_s)
                self.no_ceilings = ""
        except CellError as error:  # too little memory, say: the next inspection tries again
            self.no_ceilings = f"no ceilings of the machine: {error}"

    def lacking(self, roles: Mapping[str, str]) -> str:
        """Return what some of a quartet's cells lack, a reason at a time; `roles` name them, by cell."""
        out = []
        for what, reasons in (("profile", self.no_profile), ("answers", self.no_answers)):
            without: dict[str, list[str]] = {}  # the cells by the reason: often one, and the same for all of them
            for name, role in roles.items():
                if name in reasons:
                    without.setdefault(reasons[name], []).append(role)
            out += [f"no {what} of {', '.join(found)}: {reason}" for reason, found in without.items()]
        return "; ".join(out)


@contextmanager
def _to_spoil(
    cells: Sequence[Cell], held: Mapping[str, Worker], staying: Collection[str], settings: ProtocolConfig
) -> Iterator[Mapping[str, Worker | CellError]]:
    """Give each cell a process that is never timed again, or the reason why it has none.

    It is the cell's first process, or a second one if the first will be timed again. All second ones start at once.
    """
    found: dict[str, Worker | CellError] = {
        cell.name: held[cell.name] for cell in cells if cell.name in held and cell.name not in staying
    }
    with workers([cell for cell in cells if cell.name not in found]) as handles:
        for handle in handles.values():
            handle.send("load")
        for name, handle in handles.items():
            try:
                handle.receive("load", settings.worker_timeout_s)
                found[name] = handle
            except CellError as error:  # no room for a second one, say
                found[name] = error
        yield found


def _usable(handle: Worker | CellError) -> Worker:
    if isinstance(handle, CellError):
        raise handle
    return handle

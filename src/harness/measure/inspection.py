"""What no time is taken of, once a cell: its energy, memory, answers and profile; and the ceilings of the machine.

A process that was profiled, or that computed in eager beside its engine, is never timed again. A cell that others still
need is therefore inspected in a second process; its own one goes on being timed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from harness.config import ProtocolConfig
from harness.engines.profiling import CellProfile
from harness.measure.bring_up import CellTask
from harness.measure.ceilings import SIZES, Ceilings
from harness.measure.coordinator import Handle, Worker, workers
from harness.measure.progress import Progress
from harness.measure.references import QuartetPredictions, answer
from harness.measure.telemetry import Consumption, Telemetry, consumption
from harness.system.errors import CellError


@dataclass
class Inspections:
    """What was found of each cell so far, by its name."""

    settings: ProtocolConfig
    device: str
    batch_size: int
    progress: Progress
    telemetry: Telemetry
    consumption: dict[str, Consumption] = field(default_factory=dict)
    answers: dict[str, QuartetPredictions] = field(default_factory=dict)
    profiles: dict[str, CellProfile] = field(default_factory=dict)
    no_profile: dict[str, str] = field(default_factory=dict)  # why not
    ceilings: Ceilings | None = None
    no_ceilings: str = ""
    failed: dict[str, CellError] = field(default_factory=dict)  # cells that could not do what they must
    _done: set[str] = field(default_factory=set)

    def inspect(self, tasks: Sequence[CellTask], handles: Mapping[str, Handle], staying: Collection[str]) -> None:
        """Inspect the cells that were not yet; those in `staying` will be timed again and are left as they are."""
        todo = [task for task in tasks if task.spec.name not in self._done]
        if not todo:
            return
        self._done |= {task.spec.name for task in todo}
        held = {name: handle for name, handle in handles.items() if isinstance(handle, Worker)}  # that live on
        with ExitStack() as stack:
            second = _SecondProcesses(stack, held, staying, self.settings)
            self._consumption(todo, held)
            for task in todo:
                self._answers(task, handles, second)
            if self.settings.why and held:
                self.progress.stage("profiles")
                for task in todo:
                    self._profile(task, second)
            if self.settings.ceilings and self.ceilings is None and not self.no_ceilings:
                self._ceilings(tasks, held, second)

    def _consumption(self, todo: Sequence[CellTask], held: Mapping[str, Worker]) -> None:
        self.progress.stage("energy and memory")
        for task in todo:
            name = task.spec.name
            try:
                one = {name: held[name]} if name in held else {}
                self.consumption |= consumption(one, self.batch_size, self.settings, self.telemetry)
            except CellError as error:
                self.failed[name] = error

    def _answers(self, task: CellTask, handles: Mapping[str, Handle], second: _SecondProcesses) -> None:
        try:
            found = answer([task], handles, self.settings, self.progress, second.take)
        except CellError as error:
            self.failed[task.spec.name] = error
            return
        if found is not None:
            self.answers[task.spec.name] = found

    def _profile(self, task: CellTask, second: _SecondProcesses) -> None:
        name = task.spec.name
        try:
            self.profiles[name] = second.take(task).ask("why", None, self.settings.worker_timeout_s)
        except CellError as error:  # no reason to lose a quartet that is measured
            self.no_profile[name] = str(error).removeprefix(f"{name}: ")

    def _ceilings(self, tasks: Sequence[CellTask], held: Mapping[str, Worker], second: _SecondProcesses) -> None:
        """Measure what the machine can at most; last, for it takes memory and may end a worker."""
        self.progress.stage("ceilings of the machine")
        if not held:
            self.no_ceilings = "no ceilings of the machine: no process stays to measure them in"
            return
        try:
            handle = second.take(second.cheapest(tasks))
            self.ceilings = handle.ask("ceilings", SIZES[self.device], self.settings.worker_timeout_s)
        except CellError as error:  # too little memory, say: no reason to lose a quartet that is measured
            self.no_ceilings = f"no ceilings of the machine: {error}"

    def no_profiles_of(self, roles: Mapping[str, str]) -> str:
        """Return why some of a quartet's cells have no profile, a reason at a time; `roles` name them, by cell."""
        without: dict[str, list[str]] = {}  # the cells by the reason: often one, and the same for all of them
        for name, role in roles.items():
            if name in self.no_profile:
                without.setdefault(self.no_profile[name], []).append(role)
        return "; ".join(f"no profile of {', '.join(found)}: {reason}" for reason, found in without.items())


class _SecondProcesses:
    """Gives a cell's own process where that one is done with, else a fresh one in which the cell is loaded again."""

    def __init__(
        self, stack: ExitStack, held: Mapping[str, Worker], staying: Collection[str], settings: ProtocolConfig
    ) -> None:
        self._stack, self._held, self._staying, self._settings = stack, held, staying, settings
        self._started: dict[str, Worker] = {}

    def take(self, task: CellTask) -> Handle:
        """Return the process for what spoils it; raise CellError where a second one can't be loaded."""
        name = task.spec.name
        if name in self._held and name not in self._staying:
            return self._held[name]
        if name not in self._started:
            self._started[name] = self._stack.enter_context(_loaded(task, self._settings))
        return self._started[name]

    def cheapest(self, tasks: Sequence[CellTask]) -> CellTask:
        """Return a cell whose process is there already."""
        return next((task for task in tasks if task.spec.name not in self._staying), tasks[0])


@contextmanager
def _loaded(task: CellTask, settings: ProtocolConfig) -> Iterator[Worker]:
    with workers([task.spec]) as handles:
        handle = handles[task.spec.name]
        handle.ask("load", None, settings.worker_timeout_s)
        yield handle

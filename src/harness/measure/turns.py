"""For a GPU that admits one process at a time: a cell's process lives for one command only.

Every visit then pays for a start, a load and a warm-up, and every block is made of fresh processes: a restart of its
own. https://docs.nvidia.com/deploy/mps (compute modes) says how a GPU comes to be like that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from harness.measure.cell import Cell
from harness.measure.coordinator import Worker
from harness.measure.worker import CellCommands
from harness.system.machine import nvml_handle

# what CUDA says to the second process (cudaErrorDevicesUnavailable)
BUSY = "busy or unavailable"
NOTE = "the GPU admits one process at a time: each visit had a fresh process, so each block is a restart"


class Place:
    """The one place on the GPU: who took it last keeps it until somebody else needs it, so that it can be looked at."""

    def __init__(self, commands: type[CellCommands] = CellCommands) -> None:
        self._commands = commands
        self._holder: Worker | None = None

    def take(self, cell: Cell) -> Worker:
        """End whoever has the place and start a cell's process in it."""
        self.clear()
        self._holder = Worker(cell, self._commands)
        return self._holder

    def clear(self, orderly: bool = True) -> None:
        """End whoever has the place."""
        if self._holder is not None:
            self._holder.close() if orderly else self._holder.kill()
            self._holder = None


class TurnWorker:
    """Looks like a `Worker`; starts a process for each command, which ends before the next one's."""

    def __init__(self, cell: Cell, place: Place) -> None:
        self._cell = cell
        self._place = place
        self._sent: tuple[str, Any] = ("load", None)
        self._warm_up: Any = None

    def send(self, command: str, argument: Any = None) -> None:
        """Keep the command for `receive`: nothing may run beside another cell."""
        self._sent = (command, argument)

    def receive(self, command: str, timeout_s: float) -> Any:
        """Carry out what was sent."""
        return self.ask(command, self._sent[1], timeout_s)

    def ask(self, command: str, argument: Any = None, timeout_s: float = 300.0) -> Any:
        """Start, load, warm up before a slice, carry out the command."""
        worker = self._place.take(self._cell)
        try:
            loaded = worker.ask("load", None, timeout_s)
            if command == "warm_up":
                self._warm_up = argument
            elif command == "slice" and self._warm_up is not None:
                worker.ask("warm_up", self._warm_up, timeout_s)
            return loaded if command == "load" else worker.ask(command, argument, timeout_s)
        except BaseException:
            self._place.clear(orderly=False)
            raise


@contextmanager
def turns(cells: Sequence[Cell], commands: type[CellCommands] = CellCommands) -> Iterator[dict[str, TurnWorker]]:
    """Return one handle a cell, as `coordinator.workers` does; at most one process is there at any time."""
    place = Place(commands)
    orderly = False
    try:
        yield {cell.name: TurnWorker(cell, place) for cell in cells}
        orderly = True
    finally:
        place.clear(orderly)


def admits_one_process(device: str) -> bool:
    """Return whether the GPU is in compute mode EXCLUSIVE_PROCESS, as far as NVML tells."""
    if device != "cuda":
        return False
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # no package, no driver: the first worker finds out
        return False
    try:
        mode = pynvml.nvmlDeviceGetComputeMode(nvml_handle(pynvml))
        return bool(mode == pynvml.NVML_COMPUTEMODE_EXCLUSIVE_PROCESS)
    except pynvml.NVMLError:
        return False
    finally:
        pynvml.nvmlShutdown()

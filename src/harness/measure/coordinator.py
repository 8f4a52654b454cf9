"""The coordinator's side of the workers: start them, give turns, notice every way one can end, leave nothing.

Only the worker that was given a command does anything; a reply is awaited before the next one is sent.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

from harness.measure import worker
from harness.measure.cell import Cell
from harness.system.errors import CellError
from harness.system.machine import nvml_handle
from harness.system.processes import no_interrupts

STOP_TIMEOUT_S = 5.0


class Handle(Protocol):
    """What the protocol needs of a cell's process, however long that one lives."""

    def send(self, command: str, argument: Any = None) -> None:
        """Give a command without waiting."""

    def receive(self, command: str, timeout_s: float) -> Any:
        """Return the reply to the command given last."""

    def ask(self, command: str, argument: Any = None, timeout_s: float = 300.0) -> Any:
        """Give a command and return its reply."""


class Worker:
    """A handle on the process that holds one cell."""

    def __init__(self, cell: Cell, commands: type[worker.CellCommands] = worker.CellCommands) -> None:
        context = multiprocessing.get_context("spawn")
        self.name = cell.name
        self._connection: Connection
        self._connection, theirs = context.Pipe()
        self._process: BaseProcess = context.Process(
            target=worker.main,
            args=(theirs, replace(cell, expected=None), os.getpid(), commands),  # it is compared here, not there
            name=f"harness-{cell.name}",
            daemon=True,
        )
        with no_interrupts():
            self._process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process.pid is not None
        return self._process.pid

    def send(self, command: str, argument: Any = None) -> None:
        """Give a command without waiting; raise CellError if the process has ended."""
        try:
            self._connection.send((command, argument))
        except (BrokenPipeError, OSError):
            raise CellError(f"{self.name}: {self._end(command)}") from None

    def receive(self, command: str, timeout_s: float) -> Any:
        """Return the reply; raise CellError with the reason for an error, a crash or a hang."""
        deadline = time.monotonic() + timeout_s
        while not self._connection.poll(min(0.5, max(0.0, deadline - time.monotonic()))):
            if time.monotonic() >= deadline:
                self.kill()
                raise CellError(f"{self.name}: hung: no reply to {command!r} within {timeout_s:g} s, killed")
        try:
            status, value = self._connection.recv()
        except (EOFError, OSError):
            raise CellError(f"{self.name}: {self._end(command)}") from None
        if status == "error":
            raise CellError(f"{self.name}: {value}")
        return value

    def ask(self, command: str, argument: Any = None, timeout_s: float = 300.0) -> Any:
        """Give a command and return its reply."""
        self.send(command, argument)
        return self.receive(command, timeout_s)

    def _end(self, command: str) -> str:
        """Say how the process ended, reaping it."""
        self._process.join(STOP_TIMEOUT_S)
        code = self._process.exitcode
        if code is None:
            return f"closed its pipe during {command!r}"
        if code < 0:
            name = signal.Signals(-code).name
            hint = " (out of memory?)" if name == "SIGKILL" else ""
            return f"worker died of {name}{hint} during {command!r}"
        return f"worker ended with status {code} during {command!r}"

    def kill(self) -> None:
        """End the process at once and reap it."""
        if self._process.is_alive():
            self._process.kill()
        self._process.join(STOP_TIMEOUT_S)
        self._connection.close()

    def close(self) -> None:
        """End the process in peace if it answers, else by force; never raises."""
        try:
            if self._process.is_alive():
                self._connection.send(("stop", None))
                self._process.join(STOP_TIMEOUT_S)
        except (BrokenPipeError, OSError):
            pass
        finally:
            self.kill()


@contextmanager
def workers(
    cells: Sequence[Cell], commands: type[worker.CellCommands] = worker.CellCommands
) -> Iterator[dict[str, Worker]]:
    """Start one worker a cell and end them all on the way out, whatever happened inside."""
    started: dict[str, Worker] = {}
    orderly = False
    try:
        for cell in cells:
            started[cell.name] = Worker(cell, commands)
        yield started
        orderly = True
    finally:
        for handle in started.values():
            handle.close() if orderly else handle.kill()


# what CUDA says to the second process (cudaErrorDevicesUnavailable)
BUSY = "busy or unavailable"
ONE_AT_A_TIME = "the GPU admits one process at a time: each visit had a fresh process, so each block is a restart"


class Place:
    """The GPU's single process slot. The last worker lives until another needs it, so it can be inspected."""

    def __init__(self, commands: type[worker.CellCommands] = worker.CellCommands) -> None:
        self._commands = commands
        self._holder: Worker | None = None

    def take(self, cell: Cell) -> Worker:
        """End the worker in the process slot and start a cell's process in it."""
        self.clear()
        self._holder = Worker(cell, self._commands)
        return self._holder

    def clear(self, orderly: bool = True) -> None:
        """End the worker in the process slot."""
        if self._holder is not None:
            self._holder.close() if orderly else self._holder.kill()
            self._holder = None


class TurnWorker:
    """Looks like a `Worker`, for a GPU that admits one process at a time: starts a process for each command.

    It ends before the next one's. Every visit then pays for a start, a load and a warm-up, and every block is made of
    fresh processes: a restart of its own. https://docs.nvidia.com/deploy/mps (compute modes) says how a GPU comes to be
    like that.
    """

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
        live = self._place.take(self._cell)
        try:
            loaded = live.ask("load", None, timeout_s)
            if command == "warm_up":
                self._warm_up = argument
            elif command == "slice" and self._warm_up is not None:
                live.ask("warm_up", self._warm_up, timeout_s)
            return loaded if command == "load" else live.ask(command, argument, timeout_s)
        except BaseException:
            self._place.clear(orderly=False)
            raise


@contextmanager
def turns(
    cells: Sequence[Cell], commands: type[worker.CellCommands] = worker.CellCommands
) -> Iterator[dict[str, TurnWorker]]:
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

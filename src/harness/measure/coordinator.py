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
        """Give a command without waiting; raise CellError if the process is gone."""
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
                raise CellError(f"{self.name}: hung: no answer to {command!r} within {timeout_s:g} s, killed")
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

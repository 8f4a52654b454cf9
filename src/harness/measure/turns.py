"""For a GPU that admits one process at a time: a cell's process lives for one command only.

Every visit then pays for a start, a load and a warm-up, and every block is made of fresh processes: a restart of its
own. https://docs.nvidia.com/deploy/mps (compute modes) says how a GPU comes to be like that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from harness.environment import nvml_handle
from harness.measure.cell import CellSpec
from harness.measure.coordinator import Worker

# what CUDA says to the second process (cudaErrorDevicesUnavailable)
BUSY = "busy or unavailable"
NOTE = "the GPU admits one process at a time: each visit had a fresh process, so each block is a restart"


class TurnWorker:
    """Looks like a `Worker`; starts one for each command and ends it before the next cell's turn."""

    def __init__(self, spec: CellSpec) -> None:
        self.spec = spec
        self._sent: tuple[str, Any] = ("load", None)
        self._warm_up: Any = None

    def send(self, command: str, argument: Any = None) -> None:
        """Keep the command for `receive`: nothing may run beside another cell."""
        self._sent = (command, argument)

    def receive(self, command: str, timeout_s: float) -> Any:
        """Carry out what was sent."""
        return self.ask(command, self._sent[1], timeout_s)

    def ask(self, command: str, argument: Any = None, timeout_s: float = 300.0) -> Any:
        """Start, load, warm up before a slice, carry out the command, end."""
        worker = Worker(self.spec)
        orderly = False
        try:
            loaded = worker.ask("load", None, timeout_s)
            if command == "warm_up":
                self._warm_up = argument
            elif command == "slice" and self._warm_up is not None:
                worker.ask("warm_up", self._warm_up, timeout_s)
            reply = loaded if command == "load" else worker.ask(command, argument, timeout_s)
            orderly = True
            return reply
        finally:
            worker.close() if orderly else worker.kill()


@contextmanager
def turns(specs: Sequence[CellSpec]) -> Iterator[dict[str, TurnWorker]]:
    """Return one handle a cell, as `coordinator.workers` does; there is no process between two commands."""
    yield {spec.role: TurnWorker(spec) for spec in specs}


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

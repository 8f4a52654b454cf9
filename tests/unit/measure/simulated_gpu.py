"""A GPU for tests on machines without one: a stream of work, the host that feeds it, and one clock for both.

Work is asynchronous as on a real one: what is enqueued takes its time on the device and has happened only when
somebody waited for it. So a missing wait, a copy on another stream or a clock around the wrong thing shows in results.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch

COPY_MS = 0.25  # of one copy between host and device


class SimulatedStream:
    """One stream in order; `busy_until_ms` is when the device is through with all that was enqueued on it."""

    def __init__(self, gpu: SimulatedGpu, name: str) -> None:
        self.gpu, self.name = gpu, name
        self.busy_until_ms = 0.0
        self.waited_for: list[SimulatedStream] = []
        self._pending: list[Callable[[], object]] = []

    def __repr__(self) -> str:
        return self.name

    def enqueue(self, work: Callable[[], object], host_ms: float, device_ms: float) -> None:
        """Spend `host_ms` on launching `work`, which then takes the device `device_ms`."""
        self.gpu.now_ms += host_ms
        self.busy_until_ms = max(self.busy_until_ms, self.gpu.now_ms) + device_ms
        self._pending.append(work)

    def synchronize(self) -> None:
        """Wait until all is done; only now it has happened."""
        self.gpu.now_ms = max(self.gpu.now_ms, self.busy_until_ms)
        pending, self._pending = self._pending, []
        for work in pending:
            work()

    def wait_stream(self, other: SimulatedStream) -> None:
        """Let what comes next here begin after what is on the other one by now."""
        self.waited_for.append(other)
        self.busy_until_ms = max(self.busy_until_ms, other.busy_until_ms)


class SimulatedEvent:
    """A torch.cuda.Event as documented: its time is the device's, and can be had once the device has passed it."""

    def __init__(self, gpu: SimulatedGpu, enable_timing: bool = False) -> None:
        self._gpu, self._timing = gpu, enable_timing
        self._at_ms: float | None = None

    def record(self, stream: SimulatedStream) -> None:
        self._at_ms = max(stream.busy_until_ms, self._gpu.now_ms)

    def elapsed_time(self, end: SimulatedEvent) -> float:
        if not (self._timing and end._timing):
            raise ValueError("both events must be created with timing enabled")
        if self._at_ms is None or end._at_ms is None or self._gpu.now_ms < end._at_ms:
            raise RuntimeError("both events must be recorded and completed")
        return end._at_ms - self._at_ms


class SimulatedGpu:
    """The device and its host; takes the place of the module `time` and of what we use of `torch.cuda`."""

    def __init__(self) -> None:
        self.now_ms = 5000.0
        self.stream = SimulatedStream(self, "stream")
        self.current: SimulatedStream | None = None  # the stream that torch enqueues on; None: the default one
        self.collector_was_on: list[bool] = []  # at each `work_of` that was enqueued

    def perf_counter(self) -> float:
        return self.now_ms / 1e3

    def perf_counter_ns(self) -> int:
        return round(self.now_ms * 1e6)

    @contextmanager
    def on(self, stream: SimulatedStream) -> Iterator[None]:
        """Stand for `torch.cuda.stream`."""
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    def launcher(self, host_ms: float, *device_ms: float) -> Callable[[], None]:
        """Return a function that enqueues work of these lengths, call after call, the last of them for ever."""
        lengths = list(device_ms)

        def launch() -> None:
            self.collector_was_on.append(gc.isenabled())
            self.stream.enqueue(lambda: None, host_ms, lengths.pop(0) if len(lengths) > 1 else lengths[0])

        return launch

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Put this GPU where the code under test looks for one."""
        patch.setattr("harness.measure.clocks.time", self)
        patch.setattr(torch.cuda, "stream", self.on)
        patch.setattr(torch.cuda, "synchronize", self.stream.synchronize)
        patch.setattr(torch.cuda, "Event", lambda enable_timing=False: SimulatedEvent(self, enable_timing))
        patch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)  # needs a driver
        at_once = torch.Tensor.copy_

        def copy(into: torch.Tensor, source: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
            if self.current is None:
                assert not non_blocking, "an asynchronous copy on the default stream is ordered with nothing"
                return at_once(into, source)
            self.current.enqueue(lambda: at_once(into, source), host_ms=0.0, device_ms=COPY_MS)
            if not non_blocking:
                self.current.synchronize()
            return into

        patch.setattr(torch.Tensor, "copy_", copy)

"""What each clock encloses: timed slices of whole iterations, the warm-up before them, and the boundaries of a cell.

Boundaries are those of one synchronous caller. `wall`: host enqueue to completion, inputs in place. `device`: the GPU's
work only, captured graphs replayed back to back between events. `end_to_end`: pinned host input, copy in, compute, copy
out. On a CPU only `wall` exists.
"""

from __future__ import annotations

import gc
import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from harness.config import ProtocolConfig
from harness.measure.cell import SustainedLoad, Warmup
from harness.measure.runner import Runner
from harness.system.errors import CellError

WINDOW_S = 0.05  # of a warm-up window: below it the clock and the scheduler would be what is compared


@contextmanager
def no_collector() -> Iterator[None]:
    """Keep Python's garbage collector out of what is timed."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def timed_slice(run: Callable[[], None], ramp_iterations: int, slice_s: float) -> list[float]:
    """Return the milliseconds of each iteration, whole iterations until `slice_s` seconds are used up.

    `ramp_iterations` go before, untimed: after its wait a cell finds caches and clocks of another one.
    """
    with no_collector():
        for _ in range(ramp_iterations):
            run()
        milliseconds: list[float] = []
        budget_ns = int(slice_s * 1e9)
        used_ns = 0
        while used_ns < budget_ns or not milliseconds:
            started = time.perf_counter_ns()
            run()
            elapsed = time.perf_counter_ns() - started
            used_ns += elapsed
            milliseconds.append(elapsed / 1e6)
    return milliseconds


def device_slice(
    enqueue: Callable[[], None], stream: Any, ramp_iterations: int, slice_s: float, most: int = 8
) -> list[float]:
    """Return the milliseconds of device time of each iteration, until `slice_s` seconds are used up.

    Iterations are enqueued several at a time behind one that is not timed, so that the device never waits for the
    host; with an event between each two. Two in the first round, twice as many in each later one, up to `most`:
    a slow cell is not held much longer than its slice.
    """
    import torch

    milliseconds: list[float] = []
    with no_collector(), torch.cuda.stream(stream):
        for _ in range(ramp_iterations):
            enqueue()
        stream.synchronize()
        events = [torch.cuda.Event(enable_timing=True) for _ in range(most + 1)]
        count = min(2, most)
        while sum(milliseconds) < slice_s * 1e3:
            enqueue()
            events[0].record(stream)
            for event in events[1 : count + 1]:
                enqueue()
                event.record(stream)
            stream.synchronize()
            milliseconds += [a.elapsed_time(b) for a, b in itertools.pairwise(events[: count + 1])]
            count = min(2 * count, most)
    return milliseconds


def counted_slice(run: Callable[[], None], warmups: int, iterations: int) -> list[float]:
    """Return the milliseconds of a fixed number of iterations after a fixed warm-up (the usual recipe)."""
    for _ in range(warmups):
        run()
    milliseconds = []
    for _ in range(iterations):
        started = time.perf_counter_ns()
        run()
        milliseconds.append((time.perf_counter_ns() - started) / 1e6)
    return milliseconds


def warm_up(timed: Callable[[float], list[float]], settings: ProtocolConfig, min_s: float) -> Warmup:
    """Run until `min_s` and the minimum of iterations are past and the last windows agree, or time is up.

    `timed(seconds)` returns the milliseconds of the iterations of that many seconds: one window. Windows agree if the
    slowest mean is within the tolerance of the fastest.
    """
    assert settings.warmup_tolerance is not None, "settle the protocol first"
    started = time.perf_counter()
    iterations = 0
    windows: list[float] = []
    while True:
        milliseconds = timed(WINDOW_S)
        windows.append(sum(milliseconds) / len(milliseconds))
        iterations += len(milliseconds)
        seconds = time.perf_counter() - started
        last = windows[-settings.warmup_windows :]
        steady = len(last) == settings.warmup_windows and max(last) <= min(last) * (1 + settings.warmup_tolerance)
        if steady and seconds >= min_s and iterations >= settings.warmup_min_iterations:
            return Warmup(iterations, seconds, steady=True)
        if seconds >= settings.warmup_max_s:
            return Warmup(iterations, seconds, steady=False)


def sustained(enqueue: Callable[[], None], wait: Callable[[], None], seconds: float, ahead: int = 8) -> SustainedLoad:
    """Keep a device busy for `seconds`, `ahead` batches in its queue at a time; not a timed slice."""
    iterations = 0
    started = time.perf_counter()
    while time.perf_counter() - started < seconds:
        for _ in range(ahead):
            enqueue()
        wait()
        iterations += ahead
    return SustainedLoad(iterations, time.perf_counter() - started)


PROBES = 5  # batches to find out whether the host launches faster than the device works
LAUNCH_SHARE = 0.8  # of the device's time: below it the queue never runs dry
REPLAY_TOLERANCE = 1e-2  # of the largest output: the kernels are the same, but fp16 sums may be added in another order


class Boundaries:
    """Timed slices of one cell, by boundary."""

    def __init__(self, runner: Runner, inputs: Mapping[str, np.ndarray]) -> None:
        self._runner = runner
        self.missing: str | None = None  # why there is no device boundary
        self._enqueue: Callable[[], None] = runner.launch  # of a batch, without the host in between where that can be
        if runner.stream is None:
            self.names: tuple[str, ...] = ("wall",)
            return
        import torch

        self._host_inputs = {name: torch.from_numpy(array).pin_memory() for name, array in inputs.items()}
        runner.launch()
        runner.wait()
        self._host_outputs = {
            name: torch.empty_like(result, device="cpu").pin_memory() for name, result in runner.results.items()
        }
        reason = runner.capture()
        if reason is None:
            check_replay(runner)
            self._enqueue = runner.replay
        self.missing = reason and self._launches_slower(reason)
        self.names = ("wall", "end_to_end") if self.missing else ("device", "wall", "end_to_end")

    def slice(self, name: str, ramp_iterations: int, slice_s: float) -> list[float]:
        """Return the milliseconds of each iteration of one timed slice."""
        if name == "device":
            return device_slice(self._enqueue, self._runner.stream, ramp_iterations, slice_s)
        return timed_slice(self.run if name == "wall" else self._run_end_to_end, ramp_iterations, slice_s)

    def feed(self, inputs: Mapping[str, np.ndarray]) -> None:
        """Give the next slices other inputs, [B, ...] by name, in the shape and type of the first ones."""
        self._runner.write(inputs)
        if self._runner.stream is not None:
            import torch

            for name, array in inputs.items():
                self._host_inputs[name].copy_(torch.from_numpy(array))

    @property
    def steadiest(self) -> str:
        """The boundary to judge a warm-up by: where there is a device's own clock, the host's noise is left out."""
        return "device" if "device" in self.names else "wall"

    def sustain(self, seconds: float) -> SustainedLoad:
        """Keep the device busy with batches of this cell, replayed where they can be."""
        return sustained(self._enqueue, self._runner.wait, seconds)

    def run(self) -> None:
        """Run one batch as a synchronous caller does."""
        self._runner.launch()
        self._runner.wait()

    def _run_end_to_end(self) -> None:
        import torch

        runner = self._runner
        with torch.cuda.stream(runner.stream):
            for name, host in self._host_inputs.items():
                runner.input_buffers[name][: len(host)].copy_(host, non_blocking=True)
        runner.launch()
        with torch.cuda.stream(runner.stream):
            for name, result in runner.results.items():
                self._host_outputs[name].copy_(result, non_blocking=True)
        runner.wait()

    def _launches_slower(self, reason: str) -> str | None:
        """Return None if events around launches time the device alone, else why they would time the host."""
        runner = self._runner
        self.run()
        started = time.perf_counter()
        for _ in range(PROBES):
            runner.launch()
        launched = time.perf_counter() - started
        runner.wait()
        done = time.perf_counter() - started
        if launched <= LAUNCH_SHARE * done:
            return None
        return f"{reason}, and launching takes the host {launched / done:.0%} of the time"


def check_replay(runner: Runner) -> None:
    """Raise CellError unless a replay into poisoned outputs gives what a launch gives: else its time means nothing.

    Where `launch` itself replays (a cell with CUDA graphs on), this only shows that all is written anew; what it
    computes is then shown by the verification, which goes through `launch`.
    """
    import torch

    with torch.inference_mode():  # what a module returned there may be written only there
        runner.launch()
        runner.wait()
        launched = {name: result.float().clone() for name, result in runner.results.items()}
        runner.replay()  # from here on the buffers are the graphs' own
        runner.wait()
        runner.poison()
        torch.cuda.synchronize()
        runner.replay()
        runner.wait()
        for name, result in runner.results.items():
            difference = float((result.float() - launched[name]).abs().max())
            if not difference <= REPLAY_TOLERANCE * float(launched[name].abs().max()):  # so that NaN is caught too
                raise CellError(f"a captured graph's outputs differ from a launch's by {difference:.3g}")

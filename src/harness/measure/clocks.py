"""What the clock encloses: timed slices of whole iterations, and the warm-up that comes before them.

Boundaries are those of one synchronous caller: `wall` is enqueue to completion with the inputs in place.
"""

from __future__ import annotations

import gc
import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from harness.config import ProtocolConfig
from harness.measure.cell import SustainedLoad, Warmup

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
    host; an event stands between each two. Two in the first round, twice as many in each later one, up to `most`:
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

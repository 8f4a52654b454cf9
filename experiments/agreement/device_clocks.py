"""Clocks on the `device` boundary of a GPU: what our events say, by one pair of events, by the host and by Triton."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from statistics import mean, median
from typing import Any

from cell import Cell
from host_clocks import second_slice
from reading import Clock, Reading, in_turn

AT_LEAST = 50  # replays between two readings of a clock
CACHE_BYTES = 256 * 2**20  # what Triton's do_bench overwrites before each call


def device_clocks(cell: Cell) -> list[Clock]:
    """Return the clocks that look at what our `device` boundary enqueues."""
    return [
        Clock("ours, a second slice", "device", partial(second_slice, cell, "device")),
        Clock("one event pair", "device", partial(event_pair, cell)),
        Clock("torch Timer, back to back", "device", partial(back_to_back, cell)),
        Clock("triton do_bench", "device", partial(triton_bench, cell)),
    ]


def event_pair(cell: Cell, ours_first: bool) -> list[Reading]:
    """Compare with two events around all replays: ours has an event after each, and waits after every eighth."""
    import torch

    number = max(AT_LEAST, cell.iterations("device"))

    def outside() -> float:
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        with torch.cuda.stream(cell.stream):
            for _ in range(cell.ramp_iterations):
                cell.enqueue()
            cell.stream.synchronize()
            cell.enqueue()  # untimed, so that the first event does not wait for the host
            first.record(cell.stream)
            for _ in range(number):
                cell.enqueue()
            last.record(cell.stream)
            cell.stream.synchronize()
        return float(first.elapsed_time(last)) / number

    ours, pair = in_turn(cell.ours("device"), outside, ours_first)
    return [
        Reading("one event pair", "device", "turns", "mean", number, mean(ours), pair),
        Reading("loop: an event between", "device", "turns", "mean", number, mean(ours), pair, "overhead"),
    ]


def back_to_back(cell: Cell, ours_first: bool) -> list[Reading]:
    """Compare with torch's Timer on replays that nobody waits for in between: the host's clock, no events."""
    import torch
    from torch.utils.benchmark import Timer

    number = max(AT_LEAST, cell.iterations("device"))
    timer = Timer("enqueue()", globals={"enqueue": cell.enqueue}, num_threads=torch.get_num_threads())

    def outside() -> float:
        with torch.cuda.stream(cell.stream):  # a graph is replayed on the stream that is current
            return float(timer.timeit(number).mean) * 1e3

    ours, host = in_turn(cell.ours("device"), outside, ours_first)
    return [Reading("torch Timer, back to back", "device", "turns", "mean", number, mean(ours), host)]


def triton_bench(cell: Cell, ours_first: bool) -> list[Reading]:
    """Compare with Triton's do_bench, once as it is and once with events of our own in its protocol.

    do_bench overwrites the L2 cache before each call, our `device` boundary does not: the second row tells the clock
    from the protocol.
    """
    from triton.testing import do_bench

    count = cell.iterations("device")

    def outside() -> float:
        return float(do_bench(cell.enqueue, warmup=25, rep=max(1, round(cell.slice_s * 1e3)), return_mode="median"))

    def on_stream(run: Callable[[], float]) -> float:
        import torch

        with torch.cuda.stream(cell.stream):  # do_bench clears, launches and records on the current stream
            return run()

    ours, bench = in_turn(cell.ours("device"), lambda: on_stream(outside), ours_first)
    own = on_stream(lambda: median(cleared(cell.enqueue, cell.stream, count)))
    return [
        Reading("triton do_bench", "device", "turns", "median", count, median(ours), bench),
        Reading("triton do_bench", "device, L2 cleared", "turns", "median", count, own, bench),
    ]


def cleared(enqueue: Callable[[], None], stream: Any, count: int) -> list[float]:
    """Return the milliseconds of each replay by a pair of events of its own, the L2 cache overwritten before it."""
    import torch

    cache = torch.empty(CACHE_BYTES // 4, dtype=torch.int, device="cuda")
    pairs = [tuple(torch.cuda.Event(enable_timing=True) for _ in range(2)) for _ in range(count)]
    enqueue()
    for before, after in pairs:
        cache.zero_()
        before.record(stream)
        enqueue()
        after.record(stream)
    stream.synchronize()
    return [float(before.elapsed_time(after)) for before, after in pairs]

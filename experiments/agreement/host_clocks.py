"""Clocks on the `wall` boundary: torch's Timer, our own clock once more, and what our own loop costs."""

from __future__ import annotations

from functools import partial
from statistics import mean, median

from cell import Cell
from reading import Clock, Noted, Reading, in_turn

from harness.measure.clocks import timed_slice

EMPTY_S = 0.005  # of an empty iteration's slice: tens of thousands of them


def host_clocks(cell: Cell) -> list[Clock]:
    """Return the clocks that every engine on every machine can be read by."""
    return [
        Clock("ours, a second slice", "wall", partial(second_slice, cell, "wall")),
        Clock("torch Timer", "wall", partial(torch_timer, cell)),
        Clock("loop", "wall", partial(loop_cost, cell)),
    ]


def second_slice(cell: Cell, boundary: str, ours_first: bool) -> list[Reading]:
    """Compare our clock with itself: how far two slices of the same thing lie apart on this machine."""
    ours, again = in_turn(cell.ours(boundary), cell.ours(boundary), ours_first)
    return [Reading("ours, a second slice", boundary, "turns", "mean", len(again), mean(ours), mean(again), "control")]


def torch_timer(cell: Cell, ours_first: bool) -> list[Reading]:
    """Compare with torch.utils.benchmark: its own loop in one go, in turn with our slice, and on its iterations."""
    import torch
    from torch.utils.benchmark import Timer

    noted = Noted(cell.boundaries.run)
    # its default of one thread would make another cell of an eager one
    timer = Timer("run()", globals={"run": noted}, num_threads=torch.get_num_threads())
    number = cell.iterations("wall")
    ours, outside = in_turn(cell.ours("wall"), lambda: timer.timeit(number).mean * 1e3, ours_first)
    return [
        Reading("torch Timer", "wall", "turns", "mean", number, mean(ours), outside),
        Reading("torch Timer", "wall", "same", "mean", number, mean(noted.last(number)), outside),
    ]


def loop_cost(cell: Cell, ours_first: bool) -> list[Reading]:
    """Measure what our timed loop adds: time between the samples, and the clock's own reading inside each.

    The garbage collection before a slice lies before its first sample, and is no part of the loop.
    """
    noted = Noted(cell.boundaries.run)
    samples = timed_slice(noted, cell.ramp_iterations, cell.slice_s)
    count = len(samples)
    began, ended = noted.spans_ns[-count][0], noted.spans_ns[-1][1]
    ours = mean(samples)
    empty = median(timed_slice(lambda: None, 0, EMPTY_S))
    return [
        Reading(
            "loop: between samples", "wall", "same", "mean", count, ours, (ended - began) / 1e6 / count, "overhead"
        ),
        Reading("loop: the clock itself", "wall", "same", "mean", count, ours, ours - empty, "overhead"),
    ]

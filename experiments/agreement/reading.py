"""What a comparison is: a clock of somebody else's beside ours, on one executable, one reading a round."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeVar

Value = TypeVar("Value")


@dataclass(frozen=True)
class Reading:
    """What one clock and ours said in one round."""

    clock: str
    boundary: str  # wall | device | device, L2 cleared
    pairing: Literal["turns", "same"]  # slices in turn, or both clocks on the very same iterations
    statistic: Literal["mean", "median"]  # the same one of both: an outside clock often gives only one
    iterations: int  # the outside clock's
    ours_ms: float
    outside_ms: float
    kind: Literal["clock", "overhead", "control"] = "clock"
    worst: float | None = None  # largest disagreement over single iterations, where both clocks name each of them
    round: int = -1

    @property
    def ratio(self) -> float:
        """The outside clock's time over ours."""
        return self.outside_ms / self.ours_ms


@dataclass(frozen=True)
class Clock:
    """An outside clock; `measure(ours_first)` takes one round's readings."""

    name: str
    boundary: str
    measure: Callable[[bool], list[Reading]]


@dataclass(frozen=True)
class Absent:
    """A clock that could not be read here, and why."""

    clock: str
    boundary: str
    reason: str
    broken: bool  # it is installed, and failed; else it is not installed, or not made for this cell


def in_turn(
    ours: Callable[[], list[float]], outside: Callable[[], Value], ours_first: bool
) -> tuple[list[float], Value]:
    """Run both slices, one right after the other, in the order that was drawn."""
    if ours_first:
        return ours(), outside()
    value = outside()
    return ours(), value


@dataclass
class Noted:
    """A callable that keeps when each call began and ended by our clock: for both clocks on the same iterations."""

    run: Callable[[], None]
    spans_ns: list[tuple[int, int]] = field(default_factory=list)

    def __call__(self) -> None:
        """Run once, timed as `harness.measure.clocks.timed_slice` does."""
        started = time.perf_counter_ns()
        self.run()
        self.spans_ns.append((started, time.perf_counter_ns()))

    def last(self, count: int) -> list[float]:
        """Return the milliseconds of the last calls: what ran before them was a warm-up."""
        return [(ended - started) / 1e6 for started, ended in self.spans_ns[-count:]]

"""The highest rate that meets a latency bound: bracketed bisection over measured or simulated rates."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from harness.system.counts import counted

STEP = 1.3  # the first factor away from a guess that nothing supports


@dataclass(frozen=True)
class Point:
    """One measured rate."""

    rate_per_s: float  # requested
    arrived_per_s: float  # what the drawn arrivals came to: they are random
    completed_per_s: float
    latency_ms: float  # at the percentile of the bound
    valid: bool  # the bound is met, and the test was long enough to say so
    reason: str = ""  # why it is not valid


@dataclass(frozen=True)
class Found:
    """What a search found; `best` is None where not even the lowest rate met the bound."""

    points: tuple[Point, ...]  # in the order they were measured
    best: Point | None  # valid, with the highest rate below the first that fails
    failed: Point | None  # not valid, with the lowest rate above `best`; None: the highest rate allowed is valid
    reason: str = ""  # why there is no best, or why it is only a lower limit


def highest_rate(
    measure: Callable[[float], Point],
    guess: float,
    lowest: float,
    highest: float,
    tolerance: float,
    step: float = STEP,
    most: int = 24,
) -> Found:
    """Return the highest rate that meets the bound, to a relative bracket of `tolerance`.

    From `guess` the rate goes up or down, each step twice the last one on a logarithmic scale, until the bound is met
    at one end of a bracket and missed at the other; then the bracket is halved on that scale. A point is a random
    draw: if a rate fails by chance the result is too low, so an interval needs the whole search repeated with other
    arrivals.

    Args:
        measure: measures one rate, requests/s.
        guess: where to begin; moved into [lowest, highest].
        lowest: below it `measure` has too few requests.
        highest: above it nothing is tried.
        tolerance: relative width of the last bracket.
        step: the factor of the first step; the better the guess, the smaller.
        most: points in all.
    """
    points: list[Point] = []
    best: Point | None = None
    failed: Point | None = None

    def found(reason: str = "") -> Found:
        return Found(tuple(points), best, failed, reason)

    rate = min(max(guess, lowest), highest)
    while len(points) < most:
        point = measure(rate)
        points.append(point)
        best, failed = (point, failed) if point.valid else (best, point)
        if best is None:
            if rate <= lowest:
                return found(f"{rate:.4g} requests/s already miss it: {point.reason}")
            rate, step = max(lowest, rate / step), step**2
        elif failed is None:
            if rate >= highest:
                return found(f"{rate:.4g} requests/s, the most that was tried, still meet it")
            rate, step = min(highest, rate * step), step**2
        elif failed.rate_per_s / best.rate_per_s <= 1 + tolerance:
            return found()
        else:
            rate = math.sqrt(best.rate_per_s * failed.rate_per_s)
    return found(("the bracket is still open after " if best else "no rate met it in ") + counted(most, "point"))

"""Queues before servers that batch, simulated.

Used for where a search begins, which static size is worth measuring, and whether a planned fleet meets its bound.
Nothing reported as measured comes from here.

The highest rate that meets a latency bound: bracketed bisection over measured or simulated rates.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.serving.policy import BatchPolicy
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


Array = NDArray[np.float64]
ARRIVALS = 4000  # of one simulated rate
RATE_TOLERANCE = 0.005  # of a predicted rate, relative
WIDEST = 1000.0  # times slower than full batches come to: no lower rate is predicted


@dataclass(frozen=True)
class QueueRun:
    """What simulated servers did; one entry a request, in order of arrival."""

    latency_s: Array  # arrival to the end of its batch
    wait_s: Array  # arrival to the start of its batch
    busy_share: float  # of the servers' time until the last completion
    mean_batch_size: float  # requests a batch, padding not counted


class _Server:
    """One server with its queue: runs a batch at a time, first come first, as its policy says."""

    def __init__(self, times_s: Sequence[Sequence[float]], policy: BatchPolicy, random: Random) -> None:
        self._times_s, self._policy, self._random = times_s, policy, random
        self._delay_s = policy.max_queue_delay_us / 1e6
        self._queue: deque[tuple[float, int]] = deque()  # arrival, number
        self._in_service = 0
        self.free_s = self.busy_s = 0.0
        self.batches: list[tuple[float, float, list[int]]] = []  # start, end, numbers of the requests

    def arrive(self, now: float, number: int) -> None:
        """Queue a request; what begins before it has begun."""
        self.advance(now)
        self._queue.append((now, number))

    def present(self, now: float) -> int:
        """Return how many requests are here, those in service included."""
        self.advance(now)
        return len(self._queue) + (self._in_service if self.free_s > now else 0)

    def advance(self, now: float) -> None:
        """Run every batch that begins before `now`: a request that arrives at the same instant would have joined it."""
        while self._queue and self.free_s < now:
            oldest_s = self._queue[0][0]
            start_s = max(self.free_s, self._queue[-1][0])  # nothing could begin before the last one came
            count = self._policy.take(len(self._queue), (start_s - oldest_s) * 1e6)
            if not count:
                start_s = max(start_s, oldest_s + self._delay_s)
                count = self._policy.take(len(self._queue), math.inf)
            if start_s >= now:
                return
            service_s = self._random.choice(self._times_s[count - 1])
            self.free_s, self._in_service = start_s + service_s, count
            self.busy_s += service_s
            self.batches.append((start_s, self.free_s, [self._queue.popleft()[1] for _ in range(count)]))


Split = Callable[[list[_Server], int, float, Random], _Server]

# How a load balancer picks a server for request number i. `random` keeps Poisson arrivals Poisson on each server, which
# is what the measured one was given; the other two spread them more evenly, so a server sustains at least as much.
SPLITS: Mapping[str, Split] = {
    "random": lambda servers, i, now, random: random.choice(servers),
    "round_robin": lambda servers, i, now, random: servers[i % len(servers)],
    "shortest_queue": lambda servers, i, now, random: min(
        servers, key=lambda server: (server.present(now), random.random())
    ),
}


def simulate(
    arrivals_s: ArrayLike,
    service_s: Mapping[int, Sequence[float]],
    policy: BatchPolicy,
    servers: int = 1,
    split: str = "random",
    seed: int = 0,
) -> QueueRun:
    """Serve requests that arrive at `arrivals_s` (seconds, rising) until the last one is done.

    `service_s` holds what batches took, by the size they were run at: each simulated batch takes one of the times of
    its size, drawn anew (a bootstrap). The draws are independent: a slow spell of the measurement is broken up, which
    is one reason why measurement and simulation may disagree.
    """
    arrivals = np.asarray(arrivals_s, dtype=float)
    if not arrivals.size:  # none of a trace's few reach the part of a fleet that is simulated
        return QueueRun(arrivals, arrivals, busy_share=0.0, mean_batch_size=0.0)
    largest = policy.max_batch_size if policy.static else min(policy.max_batch_size, max(service_s))
    policy = replace(policy, max_batch_size=largest, buckets=())
    times_s = batch_times(service_s, policy)
    fleet = [_Server(times_s, policy, Random(f"{seed} {number}")) for number in range(servers)]
    pick, random = SPLITS[split], Random(f"{seed} split")
    for number, now in enumerate(arrivals.tolist()):
        pick(fleet, number, now, random).arrive(now, number)
    starts, ends = np.empty_like(arrivals), np.empty_like(arrivals)
    for server in fleet:
        server.advance(math.inf)
        for start_s, end_s, numbers in server.batches:
            starts[numbers], ends[numbers] = start_s, end_s
    return QueueRun(
        latency_s=ends - arrivals,
        wait_s=starts - arrivals,
        busy_share=sum(server.busy_s for server in fleet) / (servers * float(ends.max())),
        mean_batch_size=len(arrivals) / sum(len(server.batches) for server in fleet),
    )


def batch_times(service: Mapping[int, Sequence[float]], policy: BatchPolicy) -> list[Sequence[float]]:
    """Return the measured times of a batch of 1, 2, ... requests, up to the largest that the policy makes.

    A batch runs at the smallest measured size that holds it, which is exact where the executable pads to buckets; a
    static one always at its `max_batch_size`.
    """
    sizes = sorted(service)
    executed = (policy.executed(count) for count in range(1, policy.max_batch_size + 1))
    return [service[next(size for size in sizes if size >= least)] for least in executed]


def predicted_rate(service_s: Mapping[int, float], policy: BatchPolicy, slo_s: float, q: float, seed: int = 0) -> float:
    """Return the highest Poisson rate, requests/s, whose q-quantile latency is within `slo_s`; 0 if there is none."""
    if min(service_s.values()) > slo_s:
        return 0.0
    gaps = np.random.default_rng(seed).exponential(1.0, ARRIVALS)
    times_s = {size: (seconds,) for size, seconds in service_s.items()}

    def measure(rate: float) -> Point:
        latency_s = float(np.quantile(simulate(np.cumsum(gaps) / rate, times_s, policy).latency_s, q))
        return Point(rate, rate, rate, latency_s * 1e3, latency_s <= slo_s)

    most = max(size / seconds for size, seconds in service_s.items())
    found = highest_rate(measure, most / 2, most / WIDEST, most, RATE_TOLERANCE)
    return found.best.rate_per_s if found.best is not None else 0.0

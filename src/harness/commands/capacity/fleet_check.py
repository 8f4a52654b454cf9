"""Hold a plan against the simulated fleet: the rate that a GPU sustains there, and the latency at the plan's size."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from harness.commands.capacity.curves import Curves
from harness.commands.capacity.plan import Demand, FleetPlan, gpus_needed
from harness.serving.queueing import Point, QueueRun, highest_rate, simulate
from harness.stats import minimum_samples, percentile

AGREEMENT = 0.05  # a plan and its simulation that differ by more are reported as disagreeing
TOLERANCE = 0.005  # of the bisection, relative: finer than one seed differs from the next
REQUESTS = 80_000  # of a run, at least
OVERLOAD = 0.01  # a run lasts until so much more than a GPU can serve has made its queue as long as the bound
MOST = 400_000  # requests of a run that are drawn for this, whatever the bound
TAIL = 20  # times the samples that the percentile needs (662 for p99, 6,636 for p99.9)
SEEDS = (1, 2, 3)
SIMULATED_GPUS = 8  # at most
POINTS = 100  # of a search, at most; some 20 are usual
_WIDEST = 2.0**10  # how far from the plan's rate the simulation's is looked for


@dataclass(frozen=True)
class FleetCheck:
    """What the simulation says of a plan.

    `rates_per_s` are the highest rates a GPU that meet the bound, one a seed, `rate_per_s` their median (0: none
    does); `difference` is that over the plan's rate, minus 1, and so is what decides the number of GPUs before it is
    rounded up. `overlooked` is the overload, as a share of the plan's rate, that a run is just long enough to show: a
    lesser one may pass for sustained. The last four are of the planned number of GPUs under the peak of the demand;
    `latency_ms` is at the study's percentile, None where too few requests of a trace reach the simulated GPUs to speak
    of one.
    """

    split: str
    gpus_simulated: int
    rates_per_s: tuple[float, ...]
    rate_per_s: float
    difference: float
    overlooked: float
    gpus: int | None
    latency_ms: float | None
    meets_bound: bool | None
    busy_share: float
    mean_batch_size: float

    @property
    def agrees(self) -> bool:
        """Return whether plan and simulation differ by no more than 5%."""
        return abs(self.difference) <= AGREEMENT


def check_plan(
    curves: Curves, plan: FleetPlan, demand: Demand, split: str = "random", requests: int | None = None
) -> FleetCheck:
    """Simulate up to 8 GPUs of the planned fleet, its requests split by one of `queueing.SPLITS`.

    `requests` in a run: by default 80,000, or more where the study's percentile needs them, and, up to 400,000, enough
    for each GPU that an overload of 1% shows; where requests are split at random, GPUs know nothing of each other, so
    few are simulated for long before more requests are.
    """
    planned_per_s = plan.sustained.rate_per_s
    fleet_part = FleetPart(simulated=min(plan.gpus, SIMULATED_GPUS), fleet=plan.gpus, split=split)
    part, requests = _long_enough(curves, plan, fleet_part) if requests is None else (fleet_part, requests)
    rates = _sustained_rates(curves, plan, part, requests)
    rate_per_s = statistics.median(rates)
    seed = SEEDS[0]
    if demand.busiest_s.size:
        peak_part = _few_enough(fleet_part, demand.busiest_s.size)  # of a trace there are only so many requests
        arrivals_s = thinned_s(demand.busiest_s, seed, peak_part)
    else:
        peak_part = part
        arrivals_s = poisson_arrivals_s(demand.peak_per_s / plan.gpus, requests, seed, peak_part)
    peak = _served(curves, plan, arrivals_s, peak_part, seed)
    reached = percentile(peak.latency_s * 1e3, curves.quantile)
    return FleetCheck(
        split=split,
        gpus_simulated=peak_part.simulated,
        rates_per_s=rates,
        rate_per_s=rate_per_s,
        difference=rate_per_s / planned_per_s - 1,
        overlooked=plan.sustained.slo_ms / 1e3 * planned_per_s * part.simulated / requests,
        gpus=gpus_needed(demand.peak_per_s, rate_per_s, plan.headroom) if rate_per_s else None,
        latency_ms=None if reached is None else reached.value,
        meets_bound=None if reached is None else reached.value <= plan.sustained.slo_ms,
        busy_share=peak.busy_share,
        mean_batch_size=peak.mean_batch_size,
    )


def _long_enough(curves: Curves, plan: FleetPlan, part: FleetPart) -> tuple[FleetPart, int]:
    """Return the part of the fleet to simulate, and how many requests show an overload of 1% there."""
    requests = max(REQUESTS, TAIL * minimum_samples(curves.quantile))
    per_gpu = min(MOST, math.ceil(plan.sustained.rate_per_s * plan.sustained.slo_ms / 1e3 / OVERLOAD))
    if part.split == "random":
        part = replace(part, simulated=max(1, min(part.simulated, requests // per_gpu)))
    return part, max(requests, min(MOST, part.simulated * per_gpu))


def _few_enough(part: FleetPart, arrivals: int) -> FleetPart:
    """Return as much of the fleet as `MOST` of a trace's arrivals reach, at least one GPU, if they are independent."""
    if part.split != "random":
        return part
    return replace(part, simulated=max(1, min(part.simulated, MOST * part.fleet // arrivals)))


def _sustained_rates(curves: Curves, plan: FleetPlan, part: FleetPart, requests: int) -> tuple[float, ...]:
    """Return the highest rate a GPU that meets the bound in the simulation, for each seed."""
    planned_per_s = plan.sustained.rate_per_s

    def measure(seed: int, rate_per_s: float) -> Point:
        run = _served(curves, plan, poisson_arrivals_s(rate_per_s, requests, seed, part), part, seed)
        found = percentile(run.latency_s * 1e3, curves.quantile)
        latency_ms = math.inf if found is None else found.value
        return Point(rate_per_s, rate_per_s, rate_per_s, latency_ms, latency_ms <= plan.sustained.slo_ms)

    first = rate_of(partial(measure, SEEDS[0]), planned_per_s, 1.04)
    # the other seeds begin where the first one ended: where only they differ, that is near
    return first, *(rate_of(partial(measure, seed), first or planned_per_s, 1.01) for seed in SEEDS[1:])


def _served(curves: Curves, plan: FleetPlan, arrivals_s: NDArray[np.float64], part: FleetPart, seed: int) -> QueueRun:
    cell = curves.cells[plan.sustained.cell]
    service_s = {size: [ms / 1e3 for ms in times] for size, times in cell.service_ms.items()}
    return simulate(arrivals_s, service_s, cell.policy, part.simulated, part.split, seed)


def rate_of(measure: Callable[[float], Point], start_per_s: float, step: float) -> float:
    """Return the middle of the bracket around the highest rate that meets the bound; 0 if none within 1/1024 does.

    Where 1024 times the start still meets it, that is returned. The first bracket is `step` wide, as a ratio.
    """
    found = highest_rate(measure, start_per_s, start_per_s / _WIDEST, start_per_s * _WIDEST, TOLERANCE, step, POINTS)
    if found.best is None:
        return 0.0
    return math.sqrt(found.best.rate_per_s * (found.failed or found.best).rate_per_s)


ROUND_ROBIN = "round_robin"


@dataclass(frozen=True)
class FleetPart:
    """Which part of a fleet is simulated: so many of its GPUs, the requests split over them in one of the ways.

    The GPUs are alike, so a few tell of all. Requests that are split at random reach each by chance. In turns, the
    simulated ones, taken as neighbours, get `simulated` requests one after the other, then none until the turn has
    passed all others. Of a fleet with shortest queues one group is simulated as if requests were given to groups at
    random: the whole fleet would spread them more evenly still.
    """

    simulated: int = 1
    fleet: int = 1
    split: str = "random"


def poisson_arrivals_s(rate_per_s: float, count: int, seed: int, part: FleetPart | None = None) -> NDArray[np.float64]:
    """Return `count` arrivals (seconds, rising) at a part of a fleet whose GPUs get `rate_per_s` each on average.

    The whole fleet's arrivals are Poisson. Split at random they stay Poisson; in turns the first of each round waits
    for the sum of fleet - simulated + 1 exponential gaps, a gamma variate. One seed gives one pattern at every rate.
    """
    part = part or FleetPart()
    summed = np.ones(count)
    together_per_s = rate_per_s * part.simulated
    if part.split == ROUND_ROBIN:
        summed[:: part.simulated] = part.fleet - part.simulated + 1
        together_per_s = rate_per_s * part.fleet
    return np.asarray(np.cumsum(np.random.default_rng(seed).standard_gamma(summed)) / together_per_s)


def thinned_s(arrivals_s: NDArray[np.float64], seed: int, part: FleetPart) -> NDArray[np.float64]:
    """Return those of a trace's arrivals at a whole fleet that reach its simulated part."""
    if part.split == ROUND_ROBIN:
        return arrivals_s[np.arange(arrivals_s.size) % part.fleet < part.simulated]
    return arrivals_s[np.random.default_rng(seed).random(arrivals_s.size) < part.simulated / part.fleet]

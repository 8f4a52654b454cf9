"""The requests that reach the simulated part of a fleet: a fleet of thousands is not simulated whole."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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

"""A queue before one server, simulated: where a search begins, and which static batch size is worth being measured.

Nothing that is reported comes from here; a chosen size and a first rate are only where the measurement starts.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.serving.policy import BatchPolicy

Array = NDArray[np.float64]
ARRIVALS = 4000  # of one simulated rate


def latencies(arrivals_s: ArrayLike, service_s: Mapping[int, float], policy: BatchPolicy) -> Array:
    """Return the latency in seconds of each request [n] of one server that runs a batch at a time, first come first.

    `service_s` is the time of a batch by the size it is run at; a size between two of them takes the next larger
    one's. A request that arrives while a batch runs waits for its end.
    """
    arrivals = np.asarray(arrivals_s, dtype=float)
    sizes = sorted(service_s)
    out = np.empty_like(arrivals)
    free, first = 0.0, 0
    while first < len(arrivals):
        now = max(free, arrivals[first])
        while True:
            waiting = int(np.searchsorted(arrivals, now, side="right")) - first
            taken = policy.take(waiting, (now - arrivals[first]) * 1e6 + 1e-6)
            if taken:
                break
            # nothing changes before the next arrival or the end of the oldest one's patience
            patience = arrivals[first] + policy.max_queue_delay_us / 1e6
            following = arrivals[first + waiting] if first + waiting < len(arrivals) else np.inf
            now = min(patience, following)
        executed = policy.executed(taken)
        free = now + service_s[next((size for size in sizes if size >= executed), sizes[-1])]
        out[first : first + taken] = free - arrivals[first : first + taken]
        first += taken
    return out


def predicted_rate(service_s: Mapping[int, float], policy: BatchPolicy, slo_s: float, q: float, seed: int = 0) -> float:
    """Return the highest Poisson rate, requests/s, whose q-quantile latency is within `slo_s`; 0 if there is none."""
    gaps = np.random.default_rng(seed).exponential(1.0, ARRIVALS)
    most = max(size / seconds for size, seconds in service_s.items())
    if min(service_s.values()) > slo_s:
        return 0.0
    low, high = most / 1000, most
    for _ in range(20):
        rate = float(np.sqrt(low * high))
        met = np.quantile(latencies(np.cumsum(gaps) / rate, service_s, policy), q) <= slo_s
        low, high = (rate, high) if met else (low, rate)
    return low


def mean_wait_md1_s(rate_per_s: float, service_s: float) -> float:
    """Return the mean queueing time of an M/D/1 queue (Pollaczek-Khinchine): rho s / (2 (1 - rho)).

    Source: Kleinrock, Queueing Systems, volume 1 (1975), section 5.6. Raises ValueError for a load of 1 or more.
    """
    load = rate_per_s * service_s
    if not 0 <= load < 1:
        raise ValueError(f"an M/D/1 queue needs a load in [0, 1), got {load:.3g}")
    return load * service_s / (2 * (1 - load))

"""A fleet of GPUs as discrete events: requests arrive, are split over the GPUs, coalesced there and served.

Each GPU follows its cell's policy and takes as long for a batch as one of the measured batches of that executed
size took, drawn anew each time (a bootstrap). The draws are independent: a slow spell of the measurement is broken up,
which is one reason why measurement and simulation may disagree.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
import simpy
from numpy.typing import NDArray

from harness.commands.capacity.curves import CurveCell


@dataclass(frozen=True)
class FleetRun:
    """What a simulated fleet did: one entry a request, in order of completion."""

    latency_ms: NDArray[np.float64]  # arrival to the end of its batch
    wait_ms: NDArray[np.float64]  # arrival to the start of its batch
    busy_share: float  # of the GPUs' time until the last completion
    mean_batch_size: float  # requests a batch, padding not counted


class _Gpu:
    """One GPU with its queue: lives as long as the simulation."""

    def __init__(self, environment: simpy.Environment, cell: CurveCell, random: Random) -> None:
        self._environment = environment
        self._random = random
        self._services = batch_times_ms(cell)
        largest = len(self._services)
        # sizes that wait for nobody else: the preferred ones and a full batch, rising
        self._goals = sorted({largest, *(size for size in cell.policy.preferred_batch_sizes if size < largest)})
        self._delay_ms = cell.policy.max_queue_delay_us / 1000
        self._queue: deque[float] = deque()
        self._wanted = 1
        self._enough = environment.event()
        self._serving = 0
        self.busy_ms = 0.0
        self.batches = 0
        self.latency_ms: list[float] = []
        self.wait_ms: list[float] = []
        environment.process(self._work())

    @property
    def requests(self) -> int:
        """Return how many requests are here, those in service included."""
        return len(self._queue) + self._serving

    def offer(self) -> None:
        """Queue a request that arrives now."""
        self._queue.append(self._environment.now)
        if len(self._queue) == self._wanted and not self._enough.triggered:
            self._enough.succeed()

    def _work(self) -> Generator[simpy.Event, Any, None]:
        now = self._environment
        while True:
            if not self._queue:
                yield self._until(1)
            left_ms = self._queue[0] + self._delay_ms - now.now
            if len(self._queue) < self._goals[0] and left_ms > 0:
                yield self._until(self._goals[0]) | now.timeout(left_ms)
            count = max((size for size in self._goals if size <= len(self._queue)), default=len(self._queue))
            batch = [self._queue.popleft() for _ in range(count)]
            start_ms, service_ms = now.now, self._random.choice(self._services[count - 1])
            self._serving = count
            yield now.timeout(service_ms)
            self._serving = 0
            self.busy_ms += service_ms
            self.batches += 1
            self.wait_ms.extend(start_ms - arrival for arrival in batch)
            self.latency_ms.extend(now.now - arrival for arrival in batch)

    def _until(self, requests: int) -> simpy.Event:
        """Return an event that happens when that many wait."""
        self._wanted, self._enough = requests, self._environment.event()
        return self._enough


Split = Callable[[list[_Gpu], int, Random], _Gpu]

# How the load balancer picks a GPU for request number i. `random` keeps Poisson arrivals Poisson on each GPU, which is
# what the measured GPU was given; the other two spread them more evenly, so a GPU sustains at least as much.
SPLITS: Mapping[str, Split] = {
    "random": lambda gpus, _, random: random.choice(gpus),
    "round_robin": lambda gpus, i, _: gpus[i % len(gpus)],
    "shortest_queue": lambda gpus, _, random: min(gpus, key=lambda gpu: (gpu.requests, random.random())),
}


def simulate(cell: CurveCell, arrivals_s: NDArray[np.float64], gpus: int, split: str, seed: int) -> FleetRun:
    """Serve requests that arrive at `arrivals_s` (seconds, rising) with `gpus` GPUs until the last one is done."""
    environment = simpy.Environment()
    fleet = [_Gpu(environment, cell, Random(f"{seed} {number}")) for number in range(gpus)]
    pick, random = SPLITS[split], Random(f"{seed} split")

    def arrive() -> Generator[simpy.Event, Any, None]:
        for number, arrival_ms in enumerate((arrivals_s * 1000).tolist()):
            if arrival_ms > environment.now:
                yield environment.timeout(arrival_ms - environment.now)
            pick(fleet, number, random).offer()

    environment.process(arrive())
    environment.run()
    served = [latency for gpu in fleet for latency in gpu.latency_ms]
    return FleetRun(
        latency_ms=np.array(served),
        wait_ms=np.array([wait for gpu in fleet for wait in gpu.wait_ms]),
        busy_share=sum(gpu.busy_ms for gpu in fleet) / (gpus * environment.now),
        mean_batch_size=len(served) / sum(gpu.batches for gpu in fleet),
    )


def batch_times_ms(cell: CurveCell) -> list[tuple[float, ...]]:
    """Return the measured times of a batch of 1, 2, ... requests, up to the largest that can be simulated.

    A batch runs at the smallest measured size that holds it, which is exact where the executable pads to buckets; a
    static one always at its `max_batch_size`. No batch is made larger than the largest that was measured.
    """
    policy, measured = cell.policy, cell.service_ms
    if policy.static:
        return [measured[policy.max_batch_size]] * policy.max_batch_size
    largest = min(policy.max_batch_size, max(measured))
    return [measured[min(size for size in measured if size >= count)] for count in range(1, largest + 1)]

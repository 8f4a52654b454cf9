"""From options to commands: what one cell is asked to do in one repeat, and how long that may take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Protocol

import numpy as np

from harness.config import HarnessConfig
from harness.measure.coordinator import Handle
from harness.serving.client import LoadTest
from harness.serving.loadgen import LoadResult
from harness.serving.policy import BatchPolicy, powers_of_two
from harness.serving.queueing import predicted_rate
from harness.serving.search import STEP, Found
from harness.serving.serving_cell import ROUTINGS, Search
from harness.serving.variants import Variant
from harness.stats import minimum_samples

TIMED_BATCHES = 20
SATURATED = "offline"  # LoadGen's scenario in which all requests are there at once
BOUND_S = 2.0  # of a test of a router's bounds: all requests are there at once, so arrivals add no chance
POINTS = 24  # of one search, at most
MARGIN = 1.1  # the lowest rate of a search still makes its requests in time
ROOM = 1.3  # by which an offline test is made longer than the batches' times promise
START_AND_END_S = 30.0  # of LoadGen, at most
CEILING = 4.0  # times what the largest batch can do: nothing serves more


@dataclass(frozen=True)
class CellLoad:
    """What is known of a cell before it is put under load."""

    service_ms: Mapping[int, tuple[float, ...]]  # of batches while others wait, by size; of every set of processes
    capacity_per_s: float  # of the best of these sizes, at its median
    guess_per_s: float  # where a search begins
    found_before: bool = False  # the guess is what the first search found, and not theory's

    @staticmethod
    def timed(variant: Variant, handle: Handle, config: HarnessConfig, timeout_s: float) -> CellLoad:
        """Time the batches of a cell that is ready."""
        policy = variant.plan.policy
        argument = (variant.plan, timed_sizes(policy), TIMED_BATCHES)
        service_ms: dict[int, list[float]] = handle.ask("service_times", argument, timeout_s)
        service_s = {size: median(ms) / 1e3 for size, ms in service_ms.items()}
        asked = config.scenario
        return CellLoad(
            service_ms={size: tuple(ms) for size, ms in service_ms.items()},
            capacity_per_s=max(size / seconds for size, seconds in service_s.items()),
            guess_per_s=predicted_rate(service_s, policy, asked.slo_ms / 1e3, asked.percentile / 100),
        )

    def with_another_set(self, other: CellLoad) -> CellLoad:
        """Return this with the batches that a later set of processes was timed by too: they differ from set to set.

        Where searches begin and end remains what the first set said.
        """
        service_ms = {size: (*ms, *other.service_ms.get(size, ())) for size, ms in self.service_ms.items()}
        return replace(self, service_ms=service_ms)

    def after_search(self, found: Found | None) -> CellLoad:
        """Return this with what the first search that found anything found: where all later ones begin.

        Not each where the last one ended: a search ends below the first rate that failed, by chance too, and where
        latency hardly depends on the rate a chain of them walks down, each set of processes after the one before. And
        not all at the same rate: they would try the same few, and agree because of that.
        """
        if self.found_before or found is None or found.best is None:
            return self
        return replace(self, guess_per_s=found.best.rate_per_s, found_before=True)


def timed_sizes(policy: BatchPolicy) -> tuple[int, ...]:
    """Return the sizes whose time is measured: all of a few, else about the powers of two."""
    sizes = policy.sizes()
    if len(sizes) <= 8:
        return sizes
    wanted = {policy.executed(size) for size in powers_of_two(policy.max_batch_size)}
    return tuple(size for size in sizes if size in wanted)


class LoadScenario(Protocol):
    """What serving has to know of a scenario."""

    def request(self, variant: Variant, load: CellLoad, config: HarnessConfig, repeat: int) -> tuple[str, Any]:
        """Return the command of one repeat and its argument: `load_test` or `search`."""

    def promised_per_s(self, load: CellLoad) -> float:
        """Return what is to be expected of a cell, to choose between its static sizes."""

    def throughput_per_s(self, result: LoadResult) -> float:
        """Return what one test measured; of a search the rate at the bound is it."""


def search_of(variant: Variant, load: CellLoad, config: HarnessConfig, repeat: int, test: LoadTest) -> Search:
    """Return a search for the highest rate at which `test` is passed."""
    asked = config.scenario
    lowest = MARGIN * test.min_queries / asked.max_duration_s
    highest = max(CEILING * load.capacity_per_s, lowest)
    step, guess_per_s = STEP, load.guess_per_s
    if load.found_before:  # steps that are as narrow as asked for once halved, from a place of each repeat's own
        step = (1 + asked.tolerance) ** 2
        guess_per_s *= (1 + asked.tolerance) ** np.random.default_rng((asked.seed, repeat)).uniform(-0.5, 0.5)
    return Search(variant.plan, test, float(guess_per_s), lowest, highest, asked.tolerance, step)


def bound_tests(variant: Variant, load: CellLoad, config: HarnessConfig) -> dict[str, Any]:
    """Return the argument of an offline test for each routing: as measured, none leave early, all do."""
    test = load_test(SATURATED, config, 0, saturated_per_s(load))
    test = replace(test, min_duration_s=min(BOUND_S, test.min_duration_s))
    return {routing: (replace(variant.plan, routing=routing), test) for routing in ROUTINGS}


def command_timeout_s(config: HarnessConfig, command: str) -> float:
    """Return how long a worker may take for a command before it is taken to hang."""
    one = 3 * config.scenario.max_duration_s + START_AND_END_S
    return config.protocol.worker_timeout_s + (POINTS * one if command == "search" else one)


def saturated_per_s(load: CellLoad) -> float:
    """Return what a test at full load is sized for: some more than the batches' times promise."""
    return ROOM * load.capacity_per_s


def load_test(
    scenario: str, config: HarnessConfig, repeat: int, expected_per_s: float, give_up_s: float | None = None
) -> LoadTest:
    """Return a test by the options of a config; the four cells of one repeat see the same draw of arrivals."""
    asked = config.scenario
    return LoadTest(
        scenario=scenario,
        expected_per_s=expected_per_s,
        percentile=asked.percentile,
        slo_ms=asked.slo_ms,
        give_up_s=give_up_s,
        min_duration_s=asked.min_duration_s,
        max_duration_s=asked.max_duration_s,
        min_queries=queries_needed(asked.percentile, asked.min_queries),
        sample_count=asked.sample_count,
        seed=asked.seed + repeat,
    )


def queries_needed(percentile: float, min_queries: int | None) -> int:
    """Return how many requests one test has at least: as asked, else twice what the percentile needs."""
    return 2 * minimum_samples(percentile / 100) if min_queries is None else min_queries

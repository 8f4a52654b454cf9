"""From options to commands: what is built, how it serves, what a cell does in one repeat and for how long at most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, ClassVar, Protocol

import numpy as np

from harness.config import HarnessConfig
from harness.measure.cell import Cell, QuartetPlan
from harness.measure.coordinator import Handle
from harness.serving.client import LoadTest
from harness.serving.loadgen import LoadResult
from harness.serving.policy import BatchPolicy, powers_of_two
from harness.serving.queueing import STEP, Found, predicted_rate
from harness.serving.serving_cell import ROUTINGS, Search, ServingPlan
from harness.stats import minimum_samples
from harness.techniques.levels import BatchProfile

LATER_PATIENCE = 0.1  # of the bound: how long a sample may wait for others to fill a later stage's batch
TIMED_BATCHES = 20
SATURATED = "offline"  # LoadGen's scenario in which all requests are there at once
BOUND_S = 2.0  # of a test of a router's bounds: all requests are there at once, so arrivals add no chance
POINTS = 24  # of one search, at most
MARGIN = 1.1  # the lowest rate of a search still makes its requests in time
ROOM = 1.3  # by which an offline test is made longer than the batches' times promise
SIZES_TRIED = 3  # for a test whose size was to fill its least duration
START_AND_END_S = 30.0  # of LoadGen, at most
CEILING = 4.0  # times what the largest batch can do: nothing serves more


@dataclass(frozen=True)
class Variant:
    """One cell at one static batch size, or with the engine for all sizes that the batcher makes use of."""

    cell: Cell
    plan: ServingPlan


def variant_plans(plan: QuartetPlan, static_sizes: Sequence[int]) -> list[QuartetPlan]:
    """Return what has to be built: the cells that batch, and the others once for each static size."""
    batching = tuple(cell for cell in plan.cells if not cell.levels.batch.is_static)
    plans = [replace(plan, cells=batching)] if batching else []
    for size in static_sizes:
        profile = BatchProfile(size, size, size)
        cells = tuple(
            replace(cell, levels=replace(cell.levels, batch=profile)) for cell in plan.cells if cell not in batching
        )
        if cells:
            plans.append(replace(plan, config=replace(plan.config, batch_size=size), cells=cells))
    return plans


def variants(plan: QuartetPlan, built: Sequence[Mapping[str, Cell]]) -> dict[str, tuple[Variant, ...]]:
    """Return by role, in the order of the plan's cells, what was built of each cell."""
    out: dict[str, tuple[Variant, ...]] = {cell.role: () for cell in plan.cells}
    for cells in built:
        for role, cell in cells.items():
            out[role] = (*out[role], Variant(cell, serving_plan(plan, cell)))
    return out


def serving_plan(plan: QuartetPlan, cell: Cell) -> ServingPlan:
    """Return how a cell serves: batched by the technique's options, or at its one static size."""
    config = plan.config
    options = config.hw.dynamic_batching
    first, *later = (artifact.plan.batch for artifact in cell.artifacts)
    if first.is_static:
        policy = BatchPolicy(first.opt_size, static=True)
    else:
        preferred = tuple(sorted(options.preferred_batch_sizes or ()))
        policy = BatchPolicy(
            first.max_size, options.max_queue_delay_us, preferred, buckets=_buckets(first, plan.device, preferred)
        )
    patience_us = round(config.scenario.slo_ms * 1e3 * LATER_PATIENCE)
    policies = [
        BatchPolicy(limits.opt_size, patience_us, static=True)
        if limits.is_static
        else BatchPolicy(limits.max_size, patience_us, buckets=_buckets(limits, plan.device, ()))
        for limits in later
    ]
    return ServingPlan((policy, *policies), config.scenario.sample_count, config.data.seed)


def _buckets(limits: BatchProfile, device: str, preferred: tuple[int, ...]) -> tuple[int, ...]:
    """Return the sizes that are run: on a GPU few, so that each is captured and compiled before it is needed."""
    if device == "cpu":
        return tuple(range(limits.min_size, limits.max_size + 1))
    sizes = {*preferred, limits.max_size} if preferred else set(powers_of_two(limits.max_size))
    return tuple(sorted({max(limits.min_size, size) for size in sizes}))


@dataclass(frozen=True)
class CellLoad:
    """What is known of a cell before it is put under load."""

    service_ms: Mapping[int, tuple[float, ...]]  # of batches while others wait, by size; of every restart
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
        options = config.scenario
        return CellLoad(
            service_ms={size: tuple(ms) for size, ms in service_ms.items()},
            capacity_per_s=max(size / seconds for size, seconds in service_s.items()),
            guess_per_s=predicted_rate(service_s, policy, options.slo_ms / 1e3, options.percentile / 100),
        )

    def with_restart(self, later: CellLoad) -> CellLoad:
        """Return this with the batch times of a later restart added: they differ between restarts.

        Where searches begin and end still follows from the first restart.
        """
        service_ms = {size: (*ms, *later.service_ms.get(size, ())) for size, ms in self.service_ms.items()}
        return replace(self, service_ms=service_ms)

    def after_search(self, found: Found | None) -> CellLoad:
        """Return this with what the first search that found anything found: where all later ones begin.

        Not each where the last one ended: a search ends below the first rate that failed, by chance too, and where
        latency hardly depends on the rate a chain of them walks down, each restart below the one before. And
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
    timed = {policy.executed(size) for size in powers_of_two(policy.max_batch_size)}
    return tuple(size for size in sizes if size in timed)


class LoadScenario(Protocol):
    """What serving has to know of a scenario."""

    has_rate: ClassVar[bool]  # of arrivals; where there is none a test is sized by what the server is expected to do

    def request(self, variant: Variant, load: CellLoad, config: HarnessConfig, repeat: int) -> tuple[str, Any]:
        """Return the command of one repeat and its argument: `load_test` or `search`."""

    def promised_per_s(self, load: CellLoad) -> float:
        """Return a cell's expected rate, to choose between its static sizes."""

    def throughput_per_s(self, result: LoadResult) -> float:
        """Return the rate that one test measured; for a search, the rate at the bound."""


def search_of(variant: Variant, load: CellLoad, config: HarnessConfig, repeat: int, test: LoadTest) -> Search:
    """Return a search for the highest rate at which `test` is passed."""
    options = config.scenario
    lowest = MARGIN * test.min_queries / options.max_duration_s
    highest = max(CEILING * load.capacity_per_s, lowest)
    step, guess_per_s = STEP, load.guess_per_s
    if load.found_before:  # steps as narrow as requested once halved, from a different start in each repeat
        step = (1 + options.tolerance) ** 2
        guess_per_s *= (1 + options.tolerance) ** np.random.default_rng((options.seed, repeat)).uniform(-0.5, 0.5)
    return Search(variant.plan, test, float(guess_per_s), lowest, highest, options.tolerance, step)


def bound_tests(variant: Variant, load: CellLoad, config: HarnessConfig) -> dict[str, Any]:
    """Return the argument of an offline test for each routing: as measured, none leave early, all do."""
    test = load_test(SATURATED, config, 0, saturated_per_s(load))
    test = replace(test, min_duration_s=min(BOUND_S, test.min_duration_s))
    return {routing: (replace(variant.plan, routing=routing), test) for routing in ROUTINGS}


def command_timeout_s(config: HarnessConfig, command: str) -> float:
    """Return how long a worker may take for a command before it counts as hung."""
    test_s = 3 * config.scenario.max_duration_s + START_AND_END_S
    return config.protocol.worker_timeout_s + (POINTS * test_s if command == "search" else test_s)


def saturated_per_s(load: CellLoad) -> float:
    """Return what a test at full load is sized for: somewhat more than the batches' times suggest."""
    return ROOM * load.capacity_per_s


def load_test(
    scenario: str, config: HarnessConfig, repeat: int, expected_per_s: float, give_up_s: float | None = None
) -> LoadTest:
    """Return a test by the options of a config; the four cells of one repeat see the same draw of arrivals."""
    options = config.scenario
    return LoadTest(
        scenario=scenario,
        expected_per_s=expected_per_s,
        percentile=options.percentile,
        slo_ms=options.slo_ms,
        give_up_s=give_up_s,
        min_duration_s=options.min_duration_s,
        max_duration_s=options.max_duration_s,
        min_queries=queries_needed(options.percentile, options.min_queries),
        sample_count=options.sample_count,
        seed=options.seed + repeat,
    )


def resized(test: LoadTest, result: LoadResult) -> LoadTest:
    """Return a test sized by what the server did in one that ended too soon: its batches were timed too slow."""
    return replace(test, expected_per_s=ROOM * max(test.expected_per_s, result.completed_per_s))


def queries_needed(percentile: float, min_queries: int | None) -> int:
    """Return how many requests one test has at least: as requested, else twice what the percentile needs."""
    return 2 * minimum_samples(percentile / 100) if min_queries is None else min_queries

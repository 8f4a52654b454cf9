"""What is built for a quartet under load: each cell, and where nothing batches for it, each static size to be tried."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.config import HarnessConfig
from harness.measure.bring_up import CellTask
from harness.measure.design import QuartetPlan
from harness.measure.prepared import PreparedCell
from harness.serving.policy import BatchPolicy, powers_of_two
from harness.serving.serving_cell import ServingPlan
from harness.techniques.levels import BatchProfile

TAIL_PATIENCE = 0.1  # of the bound: how long a survivor of an early exit may wait for others to fill its batch


@dataclass(frozen=True)
class Variant:
    """One cell at one static batch size, or with the engine for all sizes that the batcher makes use of."""

    role: str
    cell: PreparedCell
    task: CellTask
    plan: ServingPlan


def static_sizes(config: HarnessConfig) -> tuple[int, ...]:
    """Return the static batch sizes to try, ascending: as asked, else those that suit the scenario.

    One request at a time is best served one at a time; a given rate is measured at the given batch size.
    """
    asked, size = config.scenario, config.batch_size
    if asked.static_batch_sizes:
        return tuple(sorted(set(asked.static_batch_sizes)))
    if asked.name == "single_stream":
        return (1,)
    if asked.name == "server" and asked.rate_per_s is None:
        return tuple(sorted({1, max(1, size // 4), size}))
    return (size,)


def serving_plan(plan: QuartetPlan, cell: PreparedCell) -> ServingPlan:
    """Return how a cell serves: batched by the technique's options, or at its one static size."""
    config = plan.config
    options = config.hw.dynamic_batching
    first, *second = (artifact.plan.batch for artifact in cell.artifacts)
    if first.is_static:
        policy = BatchPolicy(first.opt_size, static=True)
    else:
        preferred = tuple(sorted(options.preferred_batch_sizes or ()))
        policy = BatchPolicy(
            first.max_size, options.max_queue_delay_us, preferred, buckets=_buckets(first, plan.device, preferred)
        )
    tail = None
    if second:
        patience_us = round(config.scenario.slo_ms * 1e3 * TAIL_PATIENCE)
        limits = second[0]
        tail = (
            BatchPolicy(limits.opt_size, patience_us, static=True)
            if limits.is_static
            else BatchPolicy(limits.max_size, patience_us, buckets=_buckets(limits, plan.device, ()))
        )
    return ServingPlan(policy, tail, config.scenario.sample_count, config.data.seed)


def _buckets(limits: BatchProfile, device: str, preferred: tuple[int, ...]) -> tuple[int, ...]:
    """Return the sizes that are run: on a GPU few, so that each is captured and compiled before it is needed."""
    if device == "cpu":
        return tuple(range(limits.min_size, limits.max_size + 1))
    sizes = {*preferred, limits.max_size} if preferred else set(powers_of_two(limits.max_size))
    return tuple(sorted({max(limits.min_size, size) for size in sizes}))


def prepared(chosen: Mapping[str, Variant]) -> dict[str, PreparedCell]:
    """Return the cells of the chosen variants, in their order."""
    return {role: variant.cell for role, variant in chosen.items()}

"""What is built for a quartet under load: each cell, and where nothing batches for it, each static size to be tried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.measure.bring_up import CellTask
from harness.measure.cell import PreparedCell, QuartetPlan
from harness.measure.references import BuiltQuartet
from harness.serving.policy import BatchPolicy, powers_of_two
from harness.serving.serving_cell import ServingPlan
from harness.techniques.levels import BatchProfile

LATER_PATIENCE = 0.1  # of the bound: how long a sample may wait for others to fill a later stage's batch


@dataclass(frozen=True)
class Variant:
    """One cell at one static batch size, or with the engine for all sizes that the batcher makes use of."""

    role: str
    cell: PreparedCell
    task: CellTask
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


def variants(plan: QuartetPlan, built: Sequence[BuiltQuartet]) -> dict[str, tuple[Variant, ...]]:
    """Return by role, in the order of the plan's cells, what was built of each cell."""
    out: dict[str, tuple[Variant, ...]] = {cell.role: () for cell in plan.cells}
    for quartet in built:
        for task in quartet.tasks:
            role = task.spec.role
            cell = quartet.cells[role]
            out[role] = (*out[role], Variant(role, cell, task, serving_plan(quartet.plan, cell)))
    return out


def serving_plan(plan: QuartetPlan, cell: PreparedCell) -> ServingPlan:
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

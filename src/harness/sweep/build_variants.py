"""The variants of a quartet under load, built: each cell, and each static size where nothing batches for it."""

from __future__ import annotations

from dataclasses import replace

from harness.measure.design import QuartetPlan
from harness.measure.progress import Progress
from harness.measure.tasks import tasks
from harness.serving.variants import Variant, serving_plan, static_sizes
from harness.sweep.build import prepare
from harness.system.cache import Cache
from harness.techniques.levels import BatchProfile


def prepare_variants(plan: QuartetPlan, cache: Cache, progress: Progress) -> dict[str, tuple[Variant, ...]]:
    """Return every variant of every cell, built, by role; raise CellError with the reason."""
    out: dict[str, tuple[Variant, ...]] = {cell.role: () for cell in plan.cells}
    batching = tuple(cell for cell in plan.cells if not cell.levels.batch.is_static)
    plans = [replace(plan, cells=batching)] if batching else []
    for size in static_sizes(plan.config):
        profile = BatchProfile(size, size, size)
        cells = tuple(
            replace(cell, levels=replace(cell.levels, batch=profile)) for cell in plan.cells if cell not in batching
        )
        if cells:
            plans.append(replace(plan, config=replace(plan.config, batch_size=size), cells=cells))
    for one in plans:
        cells_of = prepare(one, cache, progress)
        for task in tasks(one, cells_of):
            role = task.spec.role
            variant = Variant(role, cells_of[role], task, serving_plan(one, cells_of[role]))
            out[role] = (*out[role], variant)
    return out

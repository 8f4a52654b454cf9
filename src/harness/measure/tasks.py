"""Prepared cells -> what the workers are to load, each with the reference its outputs must match."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.measure.bring_up import CellTask
from harness.measure.cell import CellSpec
from harness.measure.design import QuartetPlan
from harness.measure.prepared import PreparedCell
from harness.measure.references import reference


@dataclass(frozen=True)
class BuiltQuartet:
    """A quartet with its engines built, ready to be loaded; without tasks where nothing is to be run."""

    plan: QuartetPlan  # what was built
    cells: Mapping[str, PreparedCell]  # by role
    tasks: Sequence[CellTask]  # in the order of the cells


def tasks(plan: QuartetPlan, cells: Mapping[str, PreparedCell]) -> list[CellTask]:
    """Return what the workers are to load, each with the reference its outputs must match."""
    return [task(plan, cell) for cell in cells.values()]


def task(plan: QuartetPlan, cell: PreparedCell) -> CellTask:
    """Return what the worker of one cell is to load."""
    config = plan.config
    spec = CellSpec(
        role=cell.plan.role,
        artifacts=cell.artifacts,
        device=plan.device,
        batch_size=config.batch_size,
        router=cell.network.router,
        threads=int(dict(cell.artifacts[0].plan.options).get("threads", 0)),
        input_seed=config.data.seed,
        labelled=cell.data,
        recipe=cell.network.text,
    )
    return CellTask(spec, reference(cell.network, config, cell.data))

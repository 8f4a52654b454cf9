"""Prepared cells -> what the workers are to load, each with the reference its outputs must match."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.data.labelled import Labelled
from harness.engines.base import Artifact
from harness.measure.bring_up import CellTask
from harness.measure.cell import CellSpec
from harness.plan import CellPlan, QuartetPlan
from harness.prepare.networks import Network
from harness.prepare.references import reference


@dataclass(frozen=True)
class PreparedCell:
    """A cell with its engines built."""

    plan: CellPlan
    network: Network
    artifacts: tuple[Artifact, ...]
    export_s: float
    engine_s: float
    cache_hit: bool  # every export and artifact of this cell was in the cache
    data: Labelled | None = None  # what it is timed and tested on; None: synthetic images
    notes: tuple[str, ...] = ()  # what had to be given up for it to work

    @property
    def engine_mb(self) -> float:
        """Size of all artifacts, MB."""
        return sum(artifact.size_mb for artifact in self.artifacts)

    @property
    def degraded(self) -> tuple[str, ...]:
        """Why this cell is less than what was asked, without repetition."""
        found = [*self.notes, *(reason for artifact in self.artifacts for reason in artifact.degraded)]
        return tuple(dict.fromkeys(found))


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
        policy=cell.network.policy,
        threads=int(dict(cell.artifacts[0].plan.options).get("threads", 0)),
        input_seed=config.data.seed,
        labelled=cell.data,
        recipe=cell.network.text,
    )
    return CellTask(spec, reference(cell.network, config))

"""A cell with its engines built: what preparing gives."""

from __future__ import annotations

from dataclasses import dataclass

from harness.engines.base import Artifact
from harness.measure.design import CellPlan
from harness.networks.data.labelled import Labelled
from harness.techniques.arch.assembled import Network


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

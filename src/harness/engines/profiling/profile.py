"""What a profiler said of one cell: milliseconds a batch by part of the network; plain data that travels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

SPANNING = "spanning"  # kernels that an engine fused across parts
UNKNOWN = "unattributed"  # work whose part could not be told
QUIET = 0.25  # quantile over batches that stands for all: whatever disturbs one only makes it slower
ENOUGH = 0.9  # of the time in parts that are known; below it the attribution is said to be incomplete


@dataclass(frozen=True)
class Layer:
    """One kernel, node or layer as an engine reports it, summed over a batch."""

    name: str
    part: str  # of the network, SPANNING or UNKNOWN
    ms: float
    moves: bool = False  # a reformat, copy or cast: it computes nothing


@dataclass(frozen=True)
class CellProfile:
    """Of one batch of one cell, under its engine's profiler."""

    source: str  # which profiler
    parts_ms: Mapping[str, float]  # in the network's order; SPANNING and UNKNOWN where there is such work
    batch_ms: float  # from enqueue to completion, the profiler running
    kernels: int  # kernels on a GPU, nodes or operations on a CPU
    moves: int  # of them reformats, copies and casts
    moves_ms: float

    @property
    def work_ms(self) -> float:
        """The time of all kernels or nodes: what is left of `batch_ms` is the host's."""
        return sum(self.parts_ms.values())

    @property
    def attributed(self) -> float:
        """The share of that time in known parts."""
        known = sum(ms for part, ms in self.parts_ms.items() if part not in (SPANNING, UNKNOWN))
        return known / self.work_ms if self.work_ms > 0 else 0.0


def profile_of(source: str, layers: Iterable[Layer], batch_ms: float) -> CellProfile:
    """Sum layers up; they come in the network's order."""
    layers = list(layers)
    parts: dict[str, float] = {}
    for layer in layers:
        parts[layer.part] = parts.get(layer.part, 0.0) + layer.ms
    moves = [layer for layer in layers if layer.moves]
    return CellProfile(source, parts, batch_ms, len(layers), len(moves), sum(layer.ms for layer in moves))


def joined(stages: Iterable[CellProfile]) -> CellProfile:
    """Return the stages of one cell, run one after the other, as one."""
    stages = list(stages)
    parts: dict[str, float] = {}
    for stage in stages:
        for part, ms in stage.parts_ms.items():
            parts[part] = parts.get(part, 0.0) + ms
    return CellProfile(
        stages[0].source,
        parts,
        sum(stage.batch_ms for stage in stages),
        sum(stage.kernels for stage in stages),
        sum(stage.moves for stage in stages),
        sum(stage.moves_ms for stage in stages),
    )

"""The levels that hardware techniques switch: every one starts at its off level, a technique turns its own on."""

from __future__ import annotations

from dataclasses import dataclass

from harness.engines.base import BatchProfile, FusionLevel, Precision


@dataclass(frozen=True)
class Levels:
    """How an engine is to be built and run. "Off" is really off: fp32, static shape, least fusion, no graph."""

    batch: BatchProfile
    precision: Precision = "fp32"
    fp16_io: bool = False  # fp16 inputs and outputs too
    fusion: FusionLevel = "off"
    fusion_step: str = ""  # an engine's lower level by name, where its most broke this cell
    cuda_graph: bool = False
    dense_blocks: bool = False  # dense blocks by our own kernels
    instance: str = ""  # set by `identity`: built and loaded separately from what it equals
    replica: int = 0  # of `protocol.builds`; 0: the first build


def off(batch_size: int) -> Levels:
    """Return all levels off, for one static batch size."""
    return Levels(batch=BatchProfile(batch_size, batch_size, batch_size))

"""What of an engine a hardware technique can switch: every level starts off, a technique turns its own on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from harness.system.errors import CellError

Precision = Literal["fp32", "fp16"]
FusionLevel = Literal["off", "default", "max"]


@dataclass(frozen=True)
class BatchProfile:
    """Batch sizes an engine must accept; static if all three are equal."""

    min_size: int
    opt_size: int
    max_size: int

    @property
    def is_static(self) -> bool:
        """Whether the batch dimension is pinned."""
        return self.min_size == self.max_size


def check_batch(batch_size: int, profile: BatchProfile) -> None:
    """Raise CellError for a batch that an engine with this profile has no buffers for."""
    if not profile.min_size <= batch_size <= profile.max_size:
        limits = f"{profile.min_size} to {profile.max_size}"
        raise CellError(f"batch size {batch_size} is outside the engine's profile ({limits})")


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

"""What of an engine a hardware technique can switch: every level starts off, a technique turns its own on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from harness.system.errors import CellError

FusionLevel = Literal["off", "default", "max"]


@dataclass(frozen=True)
class Precision:
    """What an engine computes in. A technique that brings another one declares it; engines name those they have."""

    name: str  # as it is reported and recorded
    dtype: str  # of weights and compute, by the name that numpy and torch give it
    tolerance: float  # largest error that verification accepts, relative to the largest magnitude of the reference
    # "module" or "module:function": its `convert(model, fp32_io)`, or that function, puts it into an fp32 ONNX graph;
    # with a calibration, `function(model, fp32_io, calibration, inputs)`. "": no conversion is needed
    converter: str = ""
    with_tf32: Precision | None = None  # what it becomes where the TF32 policy is on; None: that changes nothing
    compute_capability: tuple[int, int] = (0, 0)  # the oldest chip of NVIDIA's that has it
    min_cosine: float = 0.98  # of outputs and reference as flat vectors: what verification accepts
    min_share: float = 1.0  # of the convolutions and products that must compute in it; below, a cell is degraded

    def under_policy(self, tf32: bool) -> Precision:
        """Return what is computed in under the TF32 policy of a quartet."""
        return self.with_tf32 if tf32 and self.with_tf32 is not None else self


# Half precision carries 11 bits; through a hundred layers about 1e-2 is normal, so an error of 5e-2 says "wrong", not
# "rounded". TF32 has the same mantissa.
HALF_TOLERANCE = 5e-2
TF32 = Precision("tf32", "float32", HALF_TOLERANCE)
FP32 = Precision("fp32", "float32", 2e-3, with_tf32=TF32)


@dataclass(frozen=True)
class Calibration:
    """How the ranges of activations are chosen, for a precision of integers."""

    method: str  # minmax | percentile | entropy
    percentile: float | None  # of the activations within the range; None: another method
    images: int  # that it is done on, at most


@dataclass(frozen=True)
class Capabilities:
    """What an engine has that hardware techniques switch; the defaults are those of a compiler."""

    precisions: tuple[Precision, ...] = (FP32,)
    lacking: Mapping[str, str] = field(default_factory=dict)  # precisions that it does not have, by name: why not
    compiles: bool = True  # it has default settings of its own, and builds for a chip
    fuses: bool = True  # it has levels of fusion
    static_batch: bool = True  # it can pin the batch size, so that a dynamic one is a choice
    fusion_steps: tuple[str, ...] = ()  # levels below its maximum that `fusion` may step down to, highest first
    fusion_options: tuple[str, ...] = ()  # its options that set the level of fusion themselves
    autotunes: bool = False  # on a GPU a build times kernels, so that another build may choose others
    # sd of ln(throughput) between builds of one cell, and of how many builds it was found; None: not measured
    build_spread: tuple[float, int] | None = None
    lowerings: tuple[str, ...] = ()  # optional rewrites of a network that it has registered, as `dense_blocks`


class HasCapabilities(Protocol):
    """What a hardware technique sees of an engine."""

    @property
    def name(self) -> str:
        """As the config calls it."""

    @property
    def capabilities(self) -> Capabilities:
        """What there is to switch."""


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
    precision: Precision = FP32
    calibration: Calibration | None = None  # of a precision of integers
    native_io: bool = False  # inputs and outputs in that precision too
    fusion: FusionLevel = "off"
    fusion_step: str = ""  # an engine's lower level by name, where its maximum broke this cell
    cuda_graph: bool = False
    lowerings: tuple[str, ...] = ()  # rewrites of the network that the engine is to do
    instance: str = ""  # set by `identity`: built and loaded separately from what it equals
    replica: int = 0  # of `protocol.builds`; 0: the first build


def off(batch_size: int) -> Levels:
    """Return all levels off, for one static batch size."""
    return Levels(batch=BatchProfile(batch_size, batch_size, batch_size))

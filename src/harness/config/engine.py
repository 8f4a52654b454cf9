"""The options of the groups `engine` and `batch`, and the one policy for TF32."""

from __future__ import annotations

from dataclasses import dataclass

from harness.config.ranges import Ranges, at_least, one_of, positive


@dataclass
class EngineConfig:
    """Which engine, on which device, and its own options."""

    name: str = "auto"  # auto: the first in order of preference that can run every cell of the sweep
    device: str = "auto"  # auto | cpu | cuda
    build_only: bool = False  # build and cache, measure nothing
    compute_capability: str | None = None  # build for this chip, e.g. "8.9"; None: the one that is here
    threads: int | None = None  # intra-op threads on a CPU; None: the physical cores this process may use
    providers: list[str] | None = None  # onnxruntime, in order of preference; None: by device
    workspace_mb: int | None = None  # TensorRT builder workspace, MiB; None: its own limit
    builder_level: int | None = None  # TensorRT's optimisation level, 0 to 5; None: by `fusion`
    tiling: str | None = None  # TensorRT: none | fast | moderate | full; None: full with `fusion`, else none
    profiles: list[list[int]] | None = None  # TensorRT, dynamic batch: a [min, opt, max] each; None: one profile
    timing_cache: bool = True  # tensorrt: what one build timed the next one takes; a replicated build has its own
    timing_cache_pinned: bool = False  # tensorrt: a build that would have to time anything fails
    # NHWC: eager and inductor convert the network, onnxruntime prefers such kernels, tensorrt takes its images so;
    # None: on for inductor alone
    channels_last: bool | None = None  # GPU only
    cudnn_benchmark: bool = False  # eager and inductor on a GPU: try cuDNN's algorithms on the first batch
    max_autotune: bool = False  # inductor with `fusion` on: time its own templates too; builds take minutes
    build_limit_s: float = 1800.0  # a build that passes it is stopped; TensorRT then tries the next lower level
    build_jobs: int | None = None  # processes that build ahead; None: a quarter of the cores, at most 8


ENGINE_RANGES: Ranges = {
    "device": one_of("auto", "cpu", "cuda"),
    "threads": at_least(1),
    "workspace_mb": at_least(1),
    "build_limit_s": positive("must be a positive number of seconds"),
    "build_jobs": at_least(1),
}


@dataclass
class PrecisionConfig:
    """One TF32 policy for all four cells."""

    tf32: bool = False  # let fp32 products use TF32 on a GPU


@dataclass
class ProfileConfig:
    """Dynamic-shape profile, where hw.dynamic_batching says nothing. None: 1, batch_size, 2 * batch_size."""

    min_batch_size: int | None = None  # of a dynamic engine
    opt_batch_size: int | None = None  # of a dynamic engine
    max_batch_size: int | None = None  # of a dynamic engine

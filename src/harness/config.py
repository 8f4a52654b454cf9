"""The structured config, one place: every option of every group, with its type, default and unit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from harness.data.options import DataConfig
from harness.train.options import CheckpointsConfig, TrainConfig


@dataclass
class ModelConfig:
    """Which network, and where its weights come from."""

    name: str = MISSING  # torchvision's or timm's name, or module:function
    weights: str | None = None  # None: random from `seed`; a path to a state dict; or a torchvision weights name
    seed: int = 0  # of random weights
    image_size: int = 224  # pixels, square
    num_classes: int = 1000  # logits of the last layer


@dataclass
class Switch:
    """A technique without options."""

    enabled: bool = False


@dataclass
class EarlyExitOptions:
    """Leave the network after a dense block (stage, encoder layer) when the exit head is sure enough."""

    enabled: bool = False
    after_block: int = 2  # counted from 1: dense blocks, stages of a ResNet or ConvNeXt, encoder layers of a ViT
    decision: str = "auto"  # auto | share | threshold; auto: share on unlabelled data, else threshold
    exit_share: float = 0.5  # share of each batch that leaves early
    threshold: float | None = None  # confidence in [0, 1]; None: calibrated to `exit_share`, or to the next one
    max_accuracy_drop: float | None = None  # labelled data: as many leave as cost at most this share of top-1
    seed: int = 1  # of the exit head's weights


@dataclass
class ReducedGrowthOptions:
    """DenseNet with a smaller growth rate; draws new weights."""

    enabled: bool = False
    growth_rate: int = 24  # channels that each layer adds; 32 in DenseNet121
    seed: int = 2  # of the new weights


@dataclass
class ReducedDepthOptions:
    """Fewer blocks in each stage of a residual network, the counterpart of a reduced growth there; keeps weights."""

    enabled: bool = False
    depth: float = 0.5  # share of each stage's blocks that stays, rounded up


@dataclass
class LowRankOptions:
    """Truncated SVD of linear layers and 1x1 convolutions. At most one of rank, ratio, energy; none: a quarter."""

    enabled: bool = False
    classifier: bool = True  # the last linear layer
    linear: bool = True  # the other ones: the MLPs of a ViT
    attention: bool = True  # the projections of a ViT's attention
    conv1x1: bool = True  # 1x1 convolutions
    rank: int | None = None  # the same for all layers
    ratio: float | None = None  # rank = ratio * min(in, out)
    energy: float | None = None  # smallest rank that keeps this share of the squared singular values


@dataclass
class GroupedOptions:
    """Grouped convolutions: DenseNet's bottlenecks (`_DenseLayer.conv1`), else 3x3 (or larger), else 1x1 expansions."""

    enabled: bool = False
    groups: int = 4  # must divide the channels


@dataclass
class PrunedOptions:
    """Structured pruning by L2 magnitude: channels of convolutions; heads and MLP width of a ViT."""

    enabled: bool = False
    ratio: float = 0.3  # share of the channels that goes
    target_gmacs: float | None = None  # overrides `ratio`
    round_to: int | None = 8  # channels are a multiple of this


@dataclass
class ArchConfig:
    """All architecture techniques, always present; a group choice switches one on."""

    identity: Switch = field(default_factory=Switch)
    reduced_growth: ReducedGrowthOptions = field(default_factory=ReducedGrowthOptions)
    reduced_depth: ReducedDepthOptions = field(default_factory=ReducedDepthOptions)
    pruned: PrunedOptions = field(default_factory=PrunedOptions)
    grouped: GroupedOptions = field(default_factory=GroupedOptions)
    low_rank: LowRankOptions = field(default_factory=LowRankOptions)
    early_exit: EarlyExitOptions = field(default_factory=EarlyExitOptions)


def _arch_config() -> ArchConfig:
    from harness.arch.others import config_type

    return config_type()()  # with the options of other packages' techniques


@dataclass
class Fp16Options:
    """Half-precision weights and compute."""

    enabled: bool = False
    io: str = "fp32"  # fp32 | fp16: dtype of the engine's inputs and outputs


@dataclass
class FusionOptions:
    """Kernel fusion and graph optimisation at the engine's most, against its least."""

    enabled: bool = False
    cuda_graph: bool = True  # GPU only: capture the run and replay it
    # inductor on a GPU, with fp16: our kernels for DenseNet, which never copy a concatenation; transitions pool first
    dense_blocks: bool = False


@dataclass
class DynamicBatchingOptions:
    """A dynamic-shape engine. None takes the value from the batch preset: 1, batch_size, 2 * batch_size."""

    enabled: bool = False
    min_batch_size: int | None = None  # smallest batch of the engine
    opt_batch_size: int | None = None  # the one it is tuned for
    max_batch_size: int | None = None  # largest batch
    max_queue_delay_us: int = 2000  # load scenarios: how long the oldest request may wait for others to join it
    preferred_batch_sizes: list[int] | None = None  # load scenarios: a batch of such a size waits for no more


@dataclass
class HwConfig:
    """All hardware techniques, always present; a group choice switches one on."""

    identity: Switch = field(default_factory=Switch)
    compiled: Switch = field(default_factory=Switch)
    fp16: Fp16Options = field(default_factory=Fp16Options)
    fusion: FusionOptions = field(default_factory=FusionOptions)
    dynamic_batching: DynamicBatchingOptions = field(default_factory=DynamicBatchingOptions)


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
    # NHWC: eager and inductor convert the network, onnxruntime prefers such kernels; None: on for inductor alone
    channels_last: bool | None = None  # GPU only
    cudnn_benchmark: bool = False  # eager and inductor on a GPU: try cuDNN's algorithms on the first batch
    max_autotune: bool = False  # inductor with `fusion` on: time its own templates too; builds take minutes
    build_jobs: int | None = None  # quartets built ahead at once; None: a quarter of the cores, at most 8


@dataclass
class PrecisionConfig:
    """One TF32 policy for all four cells."""

    tf32: bool = False  # let fp32 products use TF32 on a GPU


@dataclass
class ProfileConfig:
    """Dynamic-shape profile that comes with a batch preset. None: 1, batch_size, 2 * batch_size."""

    min_batch_size: int | None = None  # of a dynamic engine
    opt_batch_size: int | None = None  # of a dynamic engine
    max_batch_size: int | None = None  # of a dynamic engine


@dataclass
class ScenarioConfig:
    """How requests arrive. All but `fixed` come from MLPerf LoadGen."""

    name: str = "fixed"  # fixed | single_stream | offline | server
    rate_per_s: float | None = None  # server: requests a second; None: search for the highest that meets the bound
    slo_ms: float = 50.0  # server: the latency bound
    percentile: float = 99.0  # of the latencies that must be within the bound
    min_duration_s: float = 4.0  # of one LoadGen test; an overload below slo / min_duration is not seen (1% here)
    max_duration_s: float = 60.0  # no request is issued after it; a test that is cut short is INVALID
    min_queries: int | None = None  # of one LoadGen test; None: twice what the percentile needs
    repeats: int = 5  # LoadGen tests (searches) of each cell, interleaved
    tolerance: float = 0.02  # the search stops when its bracket is this narrow, relative
    static_batch_sizes: list[int] | None = None  # tried where nothing batches; None: 1, batch_size / 4, batch_size
    sample_count: int = 64  # distinct images that the requests are for
    seed: int = 0  # of arrivals and of the images' order; repeat r uses seed + r


@dataclass
class ProtocolConfig:
    """How a quartet is measured; every setting is recorded with the run."""

    name: str = "default"  # which preset it began as
    primary: str = "auto"  # auto | device | wall | end_to_end; auto: device on a GPU, wall on a CPU
    warmup_min_s: float = 2.0  # GPU only
    warmup_min_iterations: int = 3  # at least, on any device
    warmup_windows: int = 3  # the last windows that must agree
    warmup_tolerance: float | None = None  # relative spread of those windows; None: 0.01 on a GPU, 0.05 on a CPU
    warmup_max_s: float = 30.0  # then it is measured all the same, and noted as unsteady
    ramp_iterations: int = 1  # untimed, at the start of every visit
    slice_s: float = 0.25  # timed part of a visit: whole iterations until this is used up
    min_blocks: int = 10  # before it may stop
    max_blocks: int = 400  # over all restarts
    half_width: float | None = None  # of ln(factor), stop there once decided; None: 0.01 on device, 0.03 elsewhere
    budget_s: float = 240.0  # of timing one quartet, without bringing its cells up
    margin: float = 0.05  # a factor within 1 - margin and 1 + margin counts as a product
    level: float = 0.95  # of confidence of the intervals
    restarts: int = 1  # fresh sets of processes
    host_bound_restarts: int = 8  # at least, where a verdict on wall or end_to_end waits for the host
    builds: int = 1  # replicated builds of every engine; each is measured in restarts of its own
    energy_s: float = 1.0  # of sustained load a cell, untimed, to read its energy from; 0: none. GPU only
    ceilings: bool = True  # measure what a copy and a matrix product reach here, untimed, for the roofline's share
    why: bool = True  # profile each cell after timing, untimed, to say where the factor comes from
    coursework: bool = False  # also run the usual recipe on the same executables
    worker_timeout_s: float = 300.0  # a process that does not answer for so long is killed
    seed: int = 0  # of the order of visits


@dataclass
class TrackingConfig:
    """Where results go."""

    uri: str | None = None  # None: MLFLOW_TRACKING_URI, else sqlite under `root`
    root: str = "mlruns"  # folder of the embedded store
    experiment: str = "harness"  # MLflow's name for where the runs go
    report: bool = True  # put the sweep's report (page, figures, table) into its parent run


@dataclass
class CacheConfig:
    """Where exports and engines are kept."""

    dir: str = ".harness_cache"  # of this host; HARNESS_CACHE sets it too
    shared: str | None = None  # a URL for fsspec (s3://bucket/prefix, file:///folder) where hosts share what they built


@dataclass
class HarnessConfig:
    """One Hydra job: one quartet."""

    model: ModelConfig = field(default_factory=ModelConfig)
    arch: ArchConfig = field(default_factory=_arch_config)
    hw: HwConfig = field(default_factory=HwConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    precision: PrecisionConfig = field(default_factory=PrecisionConfig)
    reference: str = "eager"  # eager | engine
    batch_size: int = 8  # of every cell; a preset batch=b32 sets it together with its profile
    profile: ProfileConfig = field(default_factory=ProfileConfig)
    scenario: ScenarioConfig = field(default_factory=ScenarioConfig)
    data: DataConfig = field(default_factory=DataConfig)
    protocol: ProtocolConfig = field(default_factory=ProtocolConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    checkpoints: CheckpointsConfig = field(default_factory=CheckpointsConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    sweep_name: str | None = None  # in MLflow; None: made from the grid
    resume: str = "auto"  # auto | never | a sweep's name or run id


def from_omegaconf(cfg: Any) -> HarnessConfig:
    """Return the typed config of a composed `DictConfig` (interpolations resolved, types checked)."""
    from omegaconf import OmegaConf

    merged = OmegaConf.merge(OmegaConf.structured(HarnessConfig), cfg)
    return OmegaConf.to_object(merged)  # type: ignore[return-value]

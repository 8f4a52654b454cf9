"""The options of a quartet, which is one Hydra job: group by group with ranges (what a type can't say), then all."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

from omegaconf import MISSING

from harness.config.declared import ArchConfig, EngineConfig, HwConfig, arch_off, engine_config_type, hw_config_type
from harness.config.ranges import SHARE, Ranges, at_least, between, not_negative, one_of, positive
from harness.system.places import absolute


@dataclass
class ModelConfig:
    """Which network, and where its weights come from."""

    name: str = MISSING  # torchvision's or timm's name, or module:function
    weights: str | None = None  # a file of a state dict, or a torchvision weights name; None: random from `seed`
    seed: int = 0  # of random weights
    image_size: int = 224  # height and width of the images
    num_classes: int = 1000  # how many logits the last layer gives


MODEL_RANGES: Ranges = {"seed": at_least(0), "image_size": at_least(32), "num_classes": at_least(2)}


@dataclass
class DataConfig:
    """Where the inputs come from, and the labels if there are any."""

    name: str = "synthetic"  # synthetic | digits | image_folder | huggingface
    seed: int = 1234  # of synthetic images, and of which labelled ones are timed
    path: str | None = None  # image_folder: the directory; huggingface: a data set's name or a local path
    subset: str | None = None  # huggingface: which configuration of the data set
    image_column: str | None = None  # huggingface: the column that holds the images; None: the only one that does
    label_column: str | None = None  # huggingface: the column that holds the classes; None: the only one that does
    # train, validation, test: of a data set without parts; a train part without a validation part is divided too
    split_shares: list[float] = field(default_factory=lambda: [0.7, 0.1, 0.2])
    limit: int | None = None  # test images at most, a fixed random choice; None: all
    # an image's shorter side is scaled to so many pixels, then the centre of model.image_size is cut out; None: as the
    # model's weights were trained, else 8/7 of model.image_size (256 for 224)
    resize: int | None = None
    # taken off the red, green and blue values, which are in [0, 1]; None: as the model's weights were trained, else
    # ImageNet's [0.485, 0.456, 0.406]
    mean: list[float] | None = None
    # what red, green and blue are divided by after that; None: as the model's weights were trained, else ImageNet's
    # [0.229, 0.224, 0.225]
    std: list[float] | None = None


# which names there are is for the room of the data sets to say
DATA_RANGES: Ranges = {"seed": at_least(0), "limit": at_least(1), "resize": at_least(1)}


@dataclass
class PrecisionConfig:
    """One TF32 policy for all four cells."""

    tf32: bool = False  # let fp32 products use TF32 on a GPU


@dataclass
class ProfileConfig:
    """Dynamic-shape profile, where hw.dynamic_batching says nothing."""

    min_batch_size: int | None = None  # the smallest batch that a dynamic engine takes; None: 1
    opt_batch_size: int | None = None  # the batch that a dynamic engine is tuned for; None: batch_size
    max_batch_size: int | None = None  # the largest batch that a dynamic engine takes; None: 2 * batch_size


PROFILE_RANGES: Ranges = dict.fromkeys(("min_batch_size", "opt_batch_size", "max_batch_size"), at_least(1))


@dataclass
class ScenarioConfig:
    """How requests arrive. All but `fixed` come from MLPerf LoadGen."""

    name: str = "fixed"  # by which the group scenario chooses it
    rate_per_s: float | None = None  # server: requests a second; None: search for the highest that meets the bound
    slo_ms: float = 50.0  # server: the bound that `percentile` of the latencies must be within
    percentile: float = 99.0  # server: which percentile of the latencies must be within slo_ms
    # how long a LoadGen test lasts at least. A longer one sees a smaller overload: while more requests come than are
    # served, their queue must grow past slo_ms within it (at the defaults an overload of 1% does not)
    min_duration_s: float = 4.0
    max_duration_s: float = 60.0  # no request is issued after it; a test that is cut short is INVALID
    min_queries: int | None = None  # of one LoadGen test; None: twice what the percentile needs
    repeats: int = 5  # LoadGen tests (searches) of each cell, interleaved
    budget_s: float | None = None  # of a quartet: no further restart that would not be over by then; None: all of them
    tolerance: float = 0.02  # the search stops when its bracket is this narrow, relative
    # sizes of batch that a cell without a batcher is tried at, the best counts; None: 1, batch_size / 4, batch_size
    static_batch_sizes: list[int] | None = None
    sample_count: int = 64  # distinct images that the requests are for
    seed: int = 0  # of arrivals and of the images' order; repeat r uses seed + r


# of all scenarios with requests; `fixed` has none, and takes none of these
SCENARIO_RANGES: Ranges = {
    "rate_per_s": positive(),
    "slo_ms": positive(),
    "percentile": between(0, 100, ", for example 99"),
    "min_duration_s": positive(),
    "max_duration_s": positive(),
    "min_queries": at_least(1),
    "repeats": at_least(1),
    "budget_s": positive(),
    "tolerance": positive(),
    "sample_count": at_least(1),
    "seed": at_least(0),
}


@dataclass
class ProtocolConfig:
    """How a quartet is measured; every setting is recorded with the run."""

    name: str = "default"  # which preset it began as
    side_by_side: bool = True  # measure the distinct cells of a sweep together; false: quartet by quartet
    primary: str = "auto"  # auto | device | wall | end_to_end; auto: device on a GPU, wall on a CPU
    warmup_min_s: float = 2.0  # a GPU is warmed up for so long at least; a CPU need not be
    warmup_min_iterations: int = 3  # a warm-up has so many at least, on any device
    warmup_windows: int = 3  # a warm-up ends when its last so many windows of time agree
    # by how much those windows may differ and still agree, relative; None: 0.01 on a GPU, 0.05 on a CPU
    warmup_tolerance: float | None = None
    warmup_max_s: float = 30.0  # a warm-up ends here at the latest; the cell is then noted as unsteady
    ramp_iterations: int = 1  # untimed, at the start of every visit
    slice_s: float = 0.25  # timed part of a visit: whole iterations until this is used up
    min_blocks: int = 10  # a quartet has so many at least, over all restarts
    max_blocks: int = 400  # a quartet has so many at most, over all restarts
    # measuring stops when the interval of ln(factor) is at most so wide to either side and the verdict is decided;
    # None: 0.01 on device, 0.03 elsewhere
    half_width: float | None = None
    budget_s: float = 240.0  # for timing one quartet, all restarts together, without bringing its cells up
    margin: float = 0.05  # a factor within 1 - margin and 1 + margin counts as a product
    level: float = 0.95  # of confidence of the intervals
    # holm | bh: how verdicts are corrected, as a sweep has many. holm: with a probability of `level` none of them is
    # false; bh: at most a share of 1 - level of them is false on average, to screen many quartets
    family: str = "holm"
    restarts: int = 1  # how often all cells are measured anew, in fresh processes
    # restarts of a quartet on wall or end_to_end that has a cell which waits for its host; fewer decide nothing there
    host_bound_restarts: int = 8
    # builds of every engine, each with restarts of its own; None: 3 where a build times kernels, so that the next one
    # may choose others (TensorRT on a GPU, Inductor there with engine.max_autotune), else 1
    builds: int | None = None
    energy_s: float = 1.0  # of sustained load a cell, untimed, to read its energy from; 0: none. GPU only
    ceilings: bool = True  # measure what a copy and a matrix product reach here, untimed, for the roofline's share
    why: bool = True  # profile each cell after timing, untimed, to say where the factor comes from
    coursework: bool = False  # also run the usual recipe (3 warm-ups, 20 runs) on the same executables, to compare
    worker_timeout_s: float = 300.0  # a process that does not answer for so long is killed
    seed: int = 0  # of the random order in which cells are visited


PROTOCOL_RANGES: Ranges = {
    "primary": one_of("auto", "device", "wall", "end_to_end"),
    "warmup_min_s": not_negative(),
    "warmup_min_iterations": at_least(0),
    "warmup_windows": at_least(1),
    "warmup_tolerance": positive(),
    "warmup_max_s": positive(),
    "ramp_iterations": at_least(0),
    "slice_s": positive(),
    "min_blocks": at_least(1),
    "half_width": positive(),
    "budget_s": positive(),
    "margin": between(0, 1),
    "level": between(0, 1),
    "family": one_of("holm", "bh"),
    "restarts": at_least(1),
    "host_bound_restarts": at_least(1),
    "builds": at_least(1),
    "energy_s": not_negative("must be a number of seconds, 0 for none"),
    "worker_timeout_s": positive(),
    "seed": at_least(0),
}


@dataclass
class TrackingConfig:
    """Where results go."""

    uri: str | None = None  # MLflow's store; None: MLFLOW_TRACKING_URI, else sqlite under `root`
    root: str = "mlruns"  # folder of the embedded store
    experiment: str = "harness"  # MLflow's name for where the runs go
    report: bool = True  # put the sweep's report (page, figures, table) into its parent run


@dataclass
class CacheConfig:
    """Where exports and engines are kept."""

    dir: str = ".harness_cache"  # of this host; HARNESS_CACHE sets it too
    shared: str | None = None  # a URL for fsspec (s3://bucket/prefix, file:///folder) where hosts share what they built


@dataclass
class CheckpointsConfig:
    """Where fine-tuned weights are kept, by model, architecture stack and data, and whether cells take them."""

    dir: str = "checkpoints"  # folder of the trained weights, with one in it for each model, stack and data
    # auto: a cell takes them where there are some | require: a cell without them is an error | never
    use: str = "auto"


CHECKPOINTS_RANGES: Ranges = {"use": one_of("auto", "require", "never")}


@dataclass
class TrainConfig:
    """How a network is trained."""

    epochs: int = 80  # trained for so many at most
    batch_size: int = 64  # images of a training step
    # of AdamW, at its highest; a cosine brings it to zero. None: 4e-3 from random weights, 1e-3 from trained ones
    lr: float | None = None
    weight_decay: float = 0.05  # of AdamW
    warmup_epochs: float = 2.0  # until the learning rate is at its highest
    label_smoothing: float = 0.0  # share of the target spread over all classes
    precision: str = "auto"  # auto | fp32 | fp16 | bf16; auto: mixed with bf16 on a GPU that has it, fp32 on a CPU
    shift: float = 0.08  # largest random shift, as a share of the side
    mirror: bool | None = None  # random mirror images; None: as the data set allows
    teacher: str = "auto"  # auto: the unmodified model, where that has trained weights | none | a weights file of it
    distillation: float = 0.5  # share of the loss that follows the teacher
    temperature: float = 3.0  # of the distillation
    exit_weight: float = 0.5  # of an exit head's loss beside the last head's
    patience: int = 30  # epochs without a better validation before it stops
    resume: str = "auto"  # auto: go on where a killed training stopped | never: from the beginning
    seed: int = 0  # of the order, shifts and dropout


TRAIN_RANGES: Ranges = {
    "epochs": at_least(1),
    "batch_size": at_least(1),
    "lr": positive(),
    "weight_decay": not_negative(),
    "warmup_epochs": not_negative(),
    "label_smoothing": SHARE,
    "precision": one_of("auto", "fp32", "fp16", "bf16"),
    "shift": not_negative(),
    "distillation": SHARE,
    "temperature": positive(),
    "exit_weight": not_negative(),
    "patience": at_least(1),
    "resume": one_of("auto", "never"),
    "seed": not_negative(),
}


def _hw_config() -> HwConfig:
    return hw_config_type()()  # with the options of other packages' techniques


def _engine_config() -> EngineConfig:
    return engine_config_type()()  # with the options that engines declare


@dataclass
class HarnessConfig:
    """One Hydra job: one quartet."""

    model: ModelConfig = field(default_factory=ModelConfig)
    arch: ArchConfig = field(default_factory=arch_off)
    hw: HwConfig = field(default_factory=_hw_config)
    engine: EngineConfig = field(default_factory=_engine_config)
    precision: PrecisionConfig = field(default_factory=PrecisionConfig)
    reference: str = "eager"  # what cells without hw techniques run on: eager | engine (the one of the others)
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
    on_unsupported: str = "fail"  # fail: measure nothing where a job can't be measured | skip: leave those jobs out
    dry_run: bool = False  # print what would be measured, built and fetched, and about how long it takes; do nothing

    def reference_engine(self, engine: str) -> str:
        """Return what the cells without hardware techniques run on, where those with some run on `engine`."""
        return engine if self.reference == "engine" else self.reference


QUARTET_RANGES: Ranges = {
    "reference": one_of("eager", "engine"),
    "batch_size": at_least(1),
    "on_unsupported": one_of("fail", "skip"),
}


def from_omegaconf(cfg: Any) -> HarnessConfig:
    """Return the typed config of a composed `DictConfig` (interpolations resolved, types checked).

    Folders that are written to are absolute in it: what runs later may change the current one.
    """
    from omegaconf import OmegaConf

    merged = OmegaConf.merge(schema(), cfg)
    config: HarnessConfig = OmegaConf.to_object(merged)  # type: ignore[assignment]
    config.tracking.root = absolute(config.tracking.root)
    config.cache.dir = absolute(config.cache.dir)
    config.checkpoints.dir = absolute(config.checkpoints.dir)
    return config


@cache
def schema() -> Any:
    """Return the schema of all options, which others copy: making it takes as long as composing a job."""
    from omegaconf import OmegaConf

    return OmegaConf.structured(HarnessConfig)

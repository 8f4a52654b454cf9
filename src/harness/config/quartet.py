"""The config of one Hydra job: a quartet, with every group."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

from harness.config.declared import ArchConfig, EngineConfig, HwConfig, arch_off, engine_config_type, hw_config_type
from harness.config.groups import (
    CacheConfig,
    CheckpointsConfig,
    DataConfig,
    ModelConfig,
    PrecisionConfig,
    ProfileConfig,
    ProtocolConfig,
    ScenarioConfig,
    TrackingConfig,
    TrainConfig,
)
from harness.config.ranges import Ranges, at_least, one_of


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
    """Return the typed config of a composed `DictConfig` (interpolations resolved, types checked)."""
    from omegaconf import OmegaConf

    merged = OmegaConf.merge(_schema(), cfg)
    return OmegaConf.to_object(merged)  # type: ignore[return-value]


@cache
def _schema() -> Any:
    """Return the schema of all options, which `merge` copies: making it takes as long as composing a job."""
    from omegaconf import OmegaConf

    return OmegaConf.structured(HarnessConfig)

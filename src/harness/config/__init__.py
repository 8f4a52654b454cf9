"""Config: every option, checked; other packages.

The structured config, one place: every option of every group, with its type, default and unit.
"""

from harness.config.arch import (
    ArchConfig,
    EarlyExitOptions,
    GroupedOptions,
    LowRankOptions,
    PrunedOptions,
    ReducedDepthOptions,
    ReducedGrowthOptions,
    arch_config_type,
    other_techniques,
)
from harness.config.data import DataConfig
from harness.config.engine import EngineConfig, PrecisionConfig, ProfileConfig
from harness.config.hw import DynamicBatchingOptions, Fp16Options, FusionOptions, HwConfig
from harness.config.model import ModelConfig
from harness.config.places import CacheConfig, TrackingConfig
from harness.config.protocol import ProtocolConfig
from harness.config.quartet import HarnessConfig, from_omegaconf
from harness.config.scenario import ScenarioConfig
from harness.config.switch import Switch
from harness.config.train import CheckpointsConfig, TrainConfig

__all__ = [
    "ArchConfig",
    "CacheConfig",
    "CheckpointsConfig",
    "DataConfig",
    "DynamicBatchingOptions",
    "EarlyExitOptions",
    "EngineConfig",
    "Fp16Options",
    "FusionOptions",
    "GroupedOptions",
    "HarnessConfig",
    "HwConfig",
    "LowRankOptions",
    "ModelConfig",
    "PrecisionConfig",
    "ProfileConfig",
    "ProtocolConfig",
    "PrunedOptions",
    "ReducedDepthOptions",
    "ReducedGrowthOptions",
    "ScenarioConfig",
    "Switch",
    "TrackingConfig",
    "TrainConfig",
    "arch_config_type",
    "from_omegaconf",
    "other_techniques",
]

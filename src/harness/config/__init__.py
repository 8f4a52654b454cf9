"""Config: every option, checked; other packages.

The structured config, one place: every option of every group, with its type, default and unit.
"""

from harness.config.arch import (
    ArchConfig,
    arch_config_type,
    arch_off,
    other_techniques,
)
from harness.config.data import DATA_RANGES, DataConfig
from harness.config.engine import (
    EngineConfig,
    EngineOption,
    PrecisionConfig,
    ProfileConfig,
    engine_options,
    engine_ranges,
)
from harness.config.hw import DynamicBatchingOptions, Fp16Options, FusionOptions, HwConfig, other_hw_techniques
from harness.config.model import MODEL_RANGES, ModelConfig
from harness.config.places import CacheConfig, TrackingConfig
from harness.config.protocol import PROTOCOL_RANGES, ProtocolConfig
from harness.config.quartet import QUARTET_RANGES, HarnessConfig, from_omegaconf
from harness.config.ranges import Range, at_least, check_ranges, one_of
from harness.config.scenario import SCENARIO_RANGES, ScenarioConfig
from harness.config.switch import Switch
from harness.config.train import TRAIN_RANGES, CheckpointsConfig, TrainConfig

__all__ = [
    "DATA_RANGES",
    "MODEL_RANGES",
    "PROTOCOL_RANGES",
    "QUARTET_RANGES",
    "SCENARIO_RANGES",
    "TRAIN_RANGES",
    "ArchConfig",
    "CacheConfig",
    "CheckpointsConfig",
    "DataConfig",
    "DynamicBatchingOptions",
    "EngineConfig",
    "EngineOption",
    "Fp16Options",
    "FusionOptions",
    "HarnessConfig",
    "HwConfig",
    "ModelConfig",
    "PrecisionConfig",
    "ProfileConfig",
    "ProtocolConfig",
    "Range",
    "ScenarioConfig",
    "Switch",
    "TrackingConfig",
    "TrainConfig",
    "arch_config_type",
    "arch_off",
    "at_least",
    "check_ranges",
    "engine_options",
    "engine_ranges",
    "from_omegaconf",
    "one_of",
    "other_hw_techniques",
    "other_techniques",
]

"""Config: every option, checked; other packages.

The structured config, one place: every option of every group, with its type, default and unit.
"""

from harness.config.declared import (
    ArchConfig,
    EngineConfig,
    EngineOption,
    HwConfig,
    Switch,
    arch_config_type,
    arch_off,
    engine_options,
    engine_ranges,
)
from harness.config.groups import (
    DATA_RANGES,
    MODEL_RANGES,
    PROFILE_RANGES,
    PROTOCOL_RANGES,
    SCENARIO_RANGES,
    TRAIN_RANGES,
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
from harness.config.quartet import QUARTET_RANGES, HarnessConfig, from_omegaconf
from harness.config.ranges import Range, at_least, check_ranges, one_of

__all__ = [
    "DATA_RANGES",
    "MODEL_RANGES",
    "PROFILE_RANGES",
    "PROTOCOL_RANGES",
    "QUARTET_RANGES",
    "SCENARIO_RANGES",
    "TRAIN_RANGES",
    "ArchConfig",
    "CacheConfig",
    "CheckpointsConfig",
    "DataConfig",
    "EngineConfig",
    "EngineOption",
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
]

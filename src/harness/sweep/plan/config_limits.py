"""What a config's types can't say: ranges, names, techniques that exclude each other."""

from __future__ import annotations

from harness.config import (
    DATA_RANGES,
    ENGINE_RANGES,
    MODEL_RANGES,
    PROTOCOL_RANGES,
    QUARTET_RANGES,
    HarnessConfig,
    at_least,
    check_ranges,
    one_of,
)
from harness.networks.data import LABELLED, UNLABELLED
from harness.sweep.scenarios import scenario_of
from harness.system.errors import UserError
from harness.techniques import arch, hw

BOUNDARIES = {"cpu": ("wall",), "cuda": ("device", "wall", "end_to_end")}


def check_config(config: HarnessConfig) -> None:
    """Check what a type can't, on whatever engine: ranges, names, techniques that exclude each other."""
    check_ranges("", config, QUARTET_RANGES)
    check_ranges("model", config.model, MODEL_RANGES)
    check_ranges("data", config.data, {"name": one_of(UNLABELLED, *LABELLED), **DATA_RANGES})
    check_ranges("engine", config.engine, ENGINE_RANGES)
    check_ranges("protocol", config.protocol, PROTOCOL_RANGES)
    check_ranges("protocol", config.protocol, {"max_blocks": at_least(config.protocol.min_blocks)})
    for sizes in config.engine.profiles or ():
        if len(sizes) != 3 or not 1 <= sizes[0] <= sizes[1] <= sizes[2]:
            raise UserError(f"engine.profiles={config.engine.profiles}: each must be [min,opt,max], 1 or more, rising.")
    if config.engine.timing_cache_pinned and not config.engine.timing_cache:
        raise UserError("engine.timing_cache_pinned=true needs engine.timing_cache=true: drop one of the two.")
    if config.arch.early_exit.max_accuracy_drop is not None and config.data.name == UNLABELLED:
        raise UserError(
            "arch.early_exit.max_accuracy_drop needs labelled data: data=digits, image_folder, huggingface."
        )
    arch.check_alone(config.arch)
    hw.check_stack(config, engine="")
    scenario_of(config).check(config)


def check_boundary(config: HarnessConfig, device: str) -> None:
    """Raise UserError for a primary boundary or a precision that the device does not have."""
    if config.precision.tf32 and device == "cpu":
        raise UserError("precision.tf32=true: a CPU has no TF32; leave it out.")
    if config.protocol.primary not in ("auto", *BOUNDARIES[device]):
        known = ", ".join(BOUNDARIES[device])
        raise UserError(f"protocol.primary={config.protocol.primary}: on {device} there is only {known}.")

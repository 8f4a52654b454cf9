"""What a config's types can't say: ranges, names, techniques that exclude each other."""

from __future__ import annotations

from harness.config import (
    DATA_RANGES,
    MODEL_RANGES,
    PROTOCOL_RANGES,
    QUARTET_RANGES,
    HarnessConfig,
    at_least,
    check_ranges,
    engine_ranges,
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
    check_ranges("engine", config.engine, engine_ranges())
    check_ranges("protocol", config.protocol, PROTOCOL_RANGES)
    check_ranges("protocol", config.protocol, {"max_blocks": at_least(config.protocol.min_blocks)})
    arch.check_config(config)
    hw.check_stack(config, engine=None)
    scenario_of(config).check(config)


def check_boundary(config: HarnessConfig, device: str) -> None:
    """Raise UserError for a primary boundary or a precision that the device does not have."""
    if config.precision.tf32 and device == "cpu":
        raise UserError("precision.tf32=true: a CPU has no TF32; leave it out.")
    if config.protocol.primary not in ("auto", *BOUNDARIES[device]):
        known = ", ".join(BOUNDARIES[device])
        raise UserError(f"protocol.primary={config.protocol.primary}: on {device} there is only {known}.")

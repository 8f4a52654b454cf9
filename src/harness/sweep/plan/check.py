"""What a config's types can't say: ranges, names, techniques that exclude each other."""

from __future__ import annotations

import math

from harness.config import HarnessConfig
from harness.networks.data import LABELLED, UNLABELLED
from harness.serving.check import check_scenario
from harness.system.errors import UserError
from harness.techniques import arch, hw

BOUNDARIES = {"cpu": ("wall",), "cuda": ("device", "wall", "end_to_end")}


def check_config(config: HarnessConfig) -> None:
    """Check what a type can't, on whatever engine: ranges, names, techniques that exclude each other."""
    protocol = config.protocol
    names = {
        "reference": (config.reference, ("eager", "engine")),
        "data": (config.data.name, (UNLABELLED, *LABELLED)),
        "engine.device": (config.engine.device, ("auto", "cpu", "cuda")),
        "protocol.primary": (protocol.primary, ("auto", "device", "wall", "end_to_end")),
    }
    for name, (value, allowed) in names.items():
        if value not in allowed:
            raise UserError(f"{name}={value}: choose one of {', '.join(allowed)}.")
    at_least = {
        "batch_size": (config.batch_size, 1),
        "model.image_size": (config.model.image_size, 32),
        "model.num_classes": (config.model.num_classes, 2),
        "engine.threads": (1 if config.engine.threads is None else config.engine.threads, 1),
        "engine.workspace_mb": (1 if config.engine.workspace_mb is None else config.engine.workspace_mb, 1),
        "engine.build_jobs": (1 if config.engine.build_jobs is None else config.engine.build_jobs, 1),
        "protocol.min_blocks": (protocol.min_blocks, 1),
        "protocol.max_blocks": (protocol.max_blocks, protocol.min_blocks),
        "protocol.restarts": (protocol.restarts, 1),
        "protocol.builds": (protocol.builds, 1),
        "protocol.warmup_windows": (protocol.warmup_windows, 1),
        "protocol.ramp_iterations": (protocol.ramp_iterations, 0),
        "protocol.seed": (protocol.seed, 0),
        "data.seed": (config.data.seed, 0),
        "model.seed": (config.model.seed, 0),
    }
    for name, (number, least) in at_least.items():
        if number < least:
            raise UserError(f"{name}={number}: must be at least {least}.")
    for sizes in config.engine.profiles or ():
        if len(sizes) != 3 or not 1 <= sizes[0] <= sizes[1] <= sizes[2]:
            raise UserError(f"engine.profiles={config.engine.profiles}: each must be [min,opt,max], 1 or more, rising.")
    if config.engine.timing_cache_pinned and not config.engine.timing_cache:
        raise UserError("engine.timing_cache_pinned=true needs engine.timing_cache=true: drop one of the two.")
    positive = ("slice_s", "half_width", "budget_s", "worker_timeout_s", "warmup_max_s", "warmup_tolerance")
    for name in positive:
        value = getattr(protocol, name)
        if value is not None and not (math.isfinite(value) and value > 0):
            raise UserError(f"protocol.{name}={value}: must be a positive number.")
    if not (math.isfinite(config.engine.build_limit_s) and config.engine.build_limit_s > 0):
        raise UserError(f"engine.build_limit_s={config.engine.build_limit_s}: must be a positive number of seconds.")
    if not (math.isfinite(protocol.energy_s) and protocol.energy_s >= 0):
        raise UserError(f"protocol.energy_s={protocol.energy_s}: must be a number of seconds, 0 for none.")
    for name in ("margin", "level"):
        if not 0 < getattr(protocol, name) < 1:
            raise UserError(f"protocol.{name}={getattr(protocol, name)}: must be between 0 and 1.")
    if config.arch.early_exit.max_accuracy_drop is not None and config.data.name == UNLABELLED:
        raise UserError(
            "arch.early_exit.max_accuracy_drop needs labelled data: data=digits, image_folder, huggingface."
        )
    arch.check_alone(config.arch)
    hw.check_stack(config, engine="")
    check_scenario(config)


def check_boundary(config: HarnessConfig, device: str) -> None:
    """Raise UserError for a primary boundary or a precision that the device does not have."""
    if config.precision.tf32 and device == "cpu":
        raise UserError("precision.tf32=true: a CPU has no TF32; leave it out.")
    if config.protocol.primary not in ("auto", *BOUNDARIES[device]):
        known = ", ".join(BOUNDARIES[device])
        raise UserError(f"protocol.primary={config.protocol.primary}: on {device} there is only {known}.")

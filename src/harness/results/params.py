"""What was asked of a quartet, as its row's params: the axes of the grid and the options of what is on."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from harness.config import HarnessConfig
from harness.measure.design import QuartetPlan
from harness.techniques import arch, hw
from harness.techniques.finetuned import weights_of

# what each param says; those of options (`arch.*`, `hw.*`, `protocol.*`, `scenario.*`) are the options' own
PARAMS = {
    "model": "the network",
    "arch": "architecture techniques that are on, joined: `grouped+low_rank`; `none`",
    "hw": "hardware techniques that are on, joined",
    "batch_size": "images",
    "engine": "of the combined cell",
    "reference": "what the baseline runs on: `eager` or `engine`",
    "scenario": "`fixed`, `single_stream`, `offline` or `server`",
    "precision": "`fp16`, `tf32` or `fp32`, of the combined cell",
    "weights": "of the network: a name, a file, or `random` with its seed",
    "arch_weights": "trained ones of the changed network, where there are any",
    "data": "the images",
    "image_size": "pixels of a side",
}


def params(plan: QuartetPlan) -> dict[str, Any]:
    """Return what was asked: the axes of the grid and the options of the techniques that are on."""
    config = plan.config
    return {
        "model": config.model.name,
        "arch": "+".join(plan.arch) or "none",
        "hw": "+".join(plan.hw) or "none",
        "batch_size": config.batch_size,
        "engine": plan.engine,
        "reference": config.reference,
        "scenario": config.scenario.name,
        "precision": plan.cells[-1].levels.precision.under_policy(config.precision.tf32).name,
        **_origins(config),
        "image_size": config.model.image_size,
        **arch.flat_options(config.arch),
        **hw.flat_options(config.hw),
        **{f"protocol.{name}": value for name, value in asdict(config.protocol).items()},
    }


def _origins(config: HarnessConfig) -> dict[str, Any]:
    """Return what was measured on: the weights of the model and of its changed form, and the images."""
    found = weights_of(config, config.arch)
    out: dict[str, Any] = {
        "weights": found.model.weights or f"random (seed {config.model.seed})",
        "data": config.data.name if config.data.path is None else f"{config.data.name} {config.data.path}",
    }
    if found.checkpoint is not None:
        out["arch_weights"] = found.checkpoint
    return out

"""Before any training: what can't be trained is refused in one line."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness import networks as models
from harness.config import HarnessConfig
from harness.networks.data import LABELLED
from harness.networks.data.labelled import check_data, opened
from harness.sweep.plan import check_config
from harness.system.errors import UserError
from harness.techniques import arch
from harness.techniques.finetuned import base_model


def check_training(configs: Sequence[HarnessConfig], device: str) -> None:
    """Raise UserError for the first config that can't be trained."""
    for config in configs:
        check_config(config)
        _check_options(config, device)
        if config.data.name not in LABELLED:
            raise UserError(f"data={config.data.name} has no labels to learn from: use data={', '.join(LABELLED)}.")
        base = base_model(config)
        check_data(base, config.data)
        data = opened(config.data)
        assert data is not None
        for part, use in (("train", "learn from"), ("validation", "choose the best epoch by")):
            if not len(data.parts[part]):
                raise UserError(f"data={config.data.name}: there is no image to {use}; see data.split_shares.")
        if arch.enabled(config.arch) == ("identity",):
            raise UserError("arch=identity is the unmodified model: train that with arch=none.")
        arch.check_stack(models.build(base), config.arch)


def _check_options(config: HarnessConfig, device: str) -> None:
    train = config.train
    choices = {
        "precision": ("auto", "fp32", "fp16", "bf16"),
        "resume": ("auto", "never"),
    }
    for name, allowed in choices.items():
        if getattr(train, name) not in allowed:
            raise UserError(f"train.{name}={getattr(train, name)}: choose one of {', '.join(allowed)}.")
    if device == "cpu" and train.precision == "fp16":
        raise UserError("train.precision=fp16: a CPU trains in fp32 or bf16.")
    for name in ("epochs", "batch_size", "patience"):
        if getattr(train, name) < 1:
            raise UserError(f"train.{name}={getattr(train, name)}: must be at least 1.")
    for name in ("lr", "temperature"):
        if getattr(train, name) is not None and not (math.isfinite(getattr(train, name)) and getattr(train, name) > 0):
            raise UserError(f"train.{name}={getattr(train, name)}: must be a positive number.")
    for name in ("weight_decay", "warmup_epochs", "exit_weight", "shift", "seed"):
        if not (math.isfinite(getattr(train, name)) and getattr(train, name) >= 0):
            raise UserError(f"train.{name}={getattr(train, name)}: must be 0 or more.")
    for name in ("label_smoothing", "distillation"):
        if not 0 <= getattr(train, name) <= 1:
            raise UserError(f"train.{name}={getattr(train, name)}: must be from 0 to 1.")

"""Before any training: what can't be trained is refused in one line."""

from __future__ import annotations

from collections.abc import Sequence

from harness import networks as models
from harness.config import TRAIN_RANGES, HarnessConfig, check_ranges
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
    check_ranges("train", config.train, TRAIN_RANGES)
    if device == "cpu" and config.train.precision == "fp16":
        raise UserError("train.precision=fp16: a CPU trains in fp32 or bf16.")

"""What is exported and built separately: the whole network, or the two halves of an early exit."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from harness.config import ModelConfig
from harness.networks.shapes import output_shapes
from harness.techniques.arch.anatomy import image_size
from harness.techniques.arch.early_exit import EarlyExitNetwork


@dataclass(frozen=True)
class Stage:
    """One network to export, with a dynamic batch."""

    name: str  # whole, or stage1 and stage2
    module: nn.Module
    input_name: str
    input_shape: tuple[int, ...]  # of one sample, without the batch
    output_names: tuple[str, ...]
    share: float  # of the batch that reaches it; expected, where a threshold decides

    def example_input(self, batch_size: int, seed: int = 0) -> torch.Tensor:
        """Return [batch_size, *input_shape] float32 from a standard normal."""
        return torch.randn(batch_size, *self.input_shape, generator=torch.Generator().manual_seed(seed))


def stages(model: nn.Module, cfg: ModelConfig | None = None) -> tuple[Stage, ...]:
    """Return the stages of `model`, in the order they run.

    The side of the images is that of `cfg`, else the one `model` was built for.
    """
    side = image_size(model) if cfg is None else cfg.image_size
    return stages_at(model, side)


def stages_at(model: nn.Module, side: int) -> tuple[Stage, ...]:
    """Return the stages of `model` for images of `side` pixels."""
    images = (3, side, side)
    if not isinstance(model, EarlyExitNetwork):
        return (Stage("whole", model, "input", images, ("logits",), 1.0),)
    features = output_shapes(model.stage1, images)[0]
    return (
        Stage("stage1", model.stage1, "input", images, ("features", "exit_logits"), 1.0),
        Stage("stage2", model.stage2, "features", features, ("logits",), 1.0 - model.policy.exit_share),
    )

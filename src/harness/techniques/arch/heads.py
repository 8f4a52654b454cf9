"""All heads of a network for all samples, stage by stage: what an exit decides is not asked."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from harness.techniques.arch.stages import Stage


def all_heads(parts: Sequence[Stage], images: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the logits of every head for all of `images` [B, 3, S, S]: each sample goes through every stage."""
    heads: dict[str, torch.Tensor] = {}
    value = images
    for stage in parts:
        found = stage.module(value)
        outputs = dict(zip(stage.output_names, (found,) if torch.is_tensor(found) else found, strict=True))
        value = outputs.pop("features", value)
        heads |= outputs
    return heads

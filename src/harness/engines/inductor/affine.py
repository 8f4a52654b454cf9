"""BatchNorm in inference is one multiplication and one addition for each channel."""

from __future__ import annotations

import torch
from torch import nn


def affine(norm: nn.BatchNorm2d) -> tuple[torch.Tensor, torch.Tensor]:
    """Return scale and shift, each [C] fp32."""
    assert norm.running_var is not None and norm.running_mean is not None
    scale = norm.weight.float() / torch.sqrt(norm.running_var.float() + norm.eps)
    return scale.contiguous(), (norm.bias.float() - norm.running_mean.float() * scale).contiguous()

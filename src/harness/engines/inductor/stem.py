"""The stem of a DenseNet (7x7 convolution, BatchNorm, ReLU, max pool) as a GPU likes it, equal in what it computes.

Three channels make poor tiles: the 7x7 convolution with stride 2 is done as a 4x4 convolution with stride 1 on the
2x2 pixels of 3 channels that lie together ("space to depth"). BatchNorm's scale goes into the weights, and its shift
behind the pooling, since a maximum commutes with adding a constant and with ReLU: what was four passes over the largest
tensor of the network is two.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from harness.engines.inductor.affine import affine

STEM = ("conv0", "norm0", "relu0", "pool0")  # torchvision's names within `features`


class UnshuffledConv(nn.Module):
    """A 7x7 convolution with stride 2 and padding 3 on 3 channels, its output channels times `scale` [N]."""

    weight: torch.Tensor

    def __init__(self, conv: nn.Conv2d, scale: torch.Tensor) -> None:
        super().__init__()
        scaled = F.pad(conv.weight.float() * scale[:, None, None, None], (1, 0, 1, 0))  # 8x8, begins one pixel before
        taps = scaled.reshape(-1, 3, 4, 2, 4, 2).permute(0, 1, 3, 5, 2, 4).reshape(-1, 12, 4, 4)
        weight = taps.to(conv.weight.dtype).contiguous(memory_format=torch.channels_last)
        self.register_buffer("weight", weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return [B, N, ceil(H / 2), ceil(W / 2)] of images [B, 3, H, W]."""
        even = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))
        unshuffled = F.pad(F.pixel_unshuffle(even, 2), (2, 1, 2, 1))
        return F.conv2d(unshuffled.contiguous(memory_format=torch.channels_last), self.weight)


class PooledShift(nn.Module):
    """Max pool 3x3 with stride 2, then BatchNorm's shift [N] and ReLU."""

    shift: torch.Tensor

    def __init__(self, shift: torch.Tensor, dtype: torch.dtype) -> None:
        super().__init__()
        self.register_buffer("shift", shift[:, None, None].to(dtype))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return [B, N, ceil(H / 2), ceil(W / 2)]."""
        return F.relu(F.max_pool2d(x, 3, stride=2, padding=1) + self.shift)


def fuse_stem(features: nn.Module) -> bool:
    """Replace the stem among the children of `features` if it is DenseNet's; return whether it was."""
    parts = dict(features.named_children())
    conv, norm, pool = (parts.get(name) for name in ("conv0", "norm0", "pool0"))
    if not (isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d) and isinstance(pool, nn.MaxPool2d)):
        return False
    convolves = (conv.in_channels, conv.kernel_size, conv.stride, conv.padding, conv.bias)
    pools = (pool.kernel_size, pool.stride, pool.padding, pool.ceil_mode)
    if convolves != (3, (7, 7), (2, 2), (3, 3), None) or pools != (3, 2, 1, False):
        return False
    scale, shift = affine(norm)
    fused = (UnshuffledConv(conv, scale), nn.Identity(), nn.Identity(), PooledShift(shift, conv.weight.dtype))
    for name, part in zip(STEM, fused, strict=True):
        setattr(features, name, part)
    return True

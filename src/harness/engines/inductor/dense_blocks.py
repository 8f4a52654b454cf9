"""Dense blocks without concatenation: one buffer a block, two Triton kernels a layer: a lowering of Inductor's.

What Inductor makes of a dense block copies the growing concatenation once more for each of its layers (normalised,
since the copy is fused with BatchNorm and ReLU). Here each layer reads its inputs where they are and writes its output
behind them. A block is one opaque operation to torch.compile, which does all the rest of the network.

The transitions pool before they convolve: a mean over 2x2 pixels and a 1x1 convolution are linear and commute, and the
convolution then sees a quarter of the pixels. The stem is rearranged too (`stem.py`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from harness.system.library_internals import densenet_parts


def affine(norm: nn.BatchNorm2d) -> tuple[torch.Tensor, torch.Tensor]:
    """Return scale and shift, each [C] fp32."""
    assert norm.running_var is not None and norm.running_mean is not None
    scale = norm.weight.float() / torch.sqrt(norm.running_var.float() + norm.eps)
    return scale.contiguous(), (norm.bias.float() - norm.running_mean.float() * scale).contiguous()


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


DenseBlock, DenseLayer, Transition = densenet_parts()


@torch.library.custom_op("harness::dense_block", mutates_args=())
def dense_block(x: torch.Tensor, weights: list[torch.Tensor]) -> torch.Tensor:
    """Run a whole block: x [B, C, H, W] fp16 -> [B, C + sum of growths, H, W] channels-last.

    `weights` holds, for each layer, scale [K], shift [K], 1x1 weight [K, N], bias [N], 3x3 weight [3, 3, N, G].
    """
    from harness.engines.inductor.dense_kernels import bottleneck, grow

    layers = _layers(weights)
    buffer = _like(x, x.shape[1] + sum(layer[4].shape[3] for layer in layers))
    buffer[:, : x.shape[1]].copy_(x)
    channels = x.shape[1]
    for scale, shift, pointwise, bias, spatial in layers:
        narrow = _like(x, pointwise.shape[1])
        bottleneck(buffer, channels, scale, shift, pointwise, bias, narrow)
        grow(narrow, spatial, buffer, channels)
        channels += spatial.shape[3]
    return buffer


@dense_block.register_fake
def _(x: torch.Tensor, weights: list[torch.Tensor]) -> torch.Tensor:
    return _like(x, x.shape[1] + sum(layer[4].shape[3] for layer in _layers(weights)))


class FusedDenseBlock(nn.Module):
    """A dense block in inference, its weights folded for the two kernels."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self._weights: list[str] = []
        for index, layer in enumerate(block.children()):
            scale, shift = affine(layer.norm1)
            scale2, shift2 = affine(layer.norm2)
            pointwise = (layer.conv1.weight[:, :, 0, 0].float() * scale2[:, None]).t().contiguous().half()
            spatial = layer.conv2.weight.permute(2, 3, 1, 0).contiguous().half()
            tensors = {"scale": scale, "shift": shift, "pointwise": pointwise, "bias": shift2, "spatial": spatial}
            for name, tensor in tensors.items():
                self.register_buffer(f"{name}{index}", tensor)
                self._weights.append(f"{name}{index}")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the block's output, [B, C + layers x growth, H, W]."""
        output: torch.Tensor = dense_block(x, [getattr(self, name) for name in self._weights])
        return output


class PooledTransition(nn.Module):
    """A transition that pools before it convolves."""

    def __init__(self, transition: Any) -> None:
        super().__init__()
        self.norm, self.conv = transition.norm, transition.conv

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return [B, C / 2, H / 2, W / 2]."""
        height, width = x.shape[2] // 2 * 2, x.shape[3] // 2 * 2
        # four slices, each normalised by itself: one kernel in Inductor, where avg_pool2d of what was normalised is two
        corners = (x[:, :, i:height:2, j:width:2] for i in (0, 1) for j in (0, 1))
        output: torch.Tensor = self.conv(sum(F.relu(self.norm(corner)) for corner in corners) / 4)
        return output


def apply(module: nn.Module) -> None:
    """Replace, within `module` (fp16, eval), the dense blocks that the kernels can take, transitions and stem."""
    for parent in list(module.modules()):
        fuse_stem(parent)
        for name, child in list(parent.named_children()):
            if isinstance(child, DenseBlock) and _refusal(child) is None:
                setattr(parent, name, FusedDenseBlock(child))
            elif isinstance(child, Transition) and _is_pointwise(child.conv):
                setattr(parent, name, PooledTransition(child))


def proof(module: nn.Module) -> tuple[dict[str, int], tuple[str, ...]]:
    """Return how many dense blocks our kernels run, and a line for each reason why one was left to the compiler."""
    fused = sum(isinstance(part, FusedDenseBlock) for part in module.modules())
    by_reason: dict[str, list[str]] = {}
    for name, part in module.named_modules():
        if isinstance(part, DenseBlock):
            by_reason.setdefault(str(_refusal(part)), []).append(name.rpartition(".")[2])
    left = tuple(f"{', '.join(names)} without our kernels: {reason}" for reason, names in by_reason.items())
    return {"fused_dense_blocks": fused}, left


def _refusal(block: Any) -> str | None:
    """Return why a block's layers are not what the kernels compute, or None."""
    channels = None
    for layer in block.children():
        if not isinstance(layer, DenseLayer) or not isinstance(layer.conv1, nn.Conv2d):
            return "its 1x1 convolutions are factorised"
        if not _is_pointwise(layer.conv1):
            return f"its 1x1 convolutions have {layer.conv1.groups} groups"
        conv = layer.conv2
        if not isinstance(conv, nn.Conv2d) or conv.groups != 1 or conv.bias is not None:
            return "its 3x3 convolutions are not plain ones"
        if (conv.kernel_size, conv.stride, conv.padding) != ((3, 3), (1, 1), (1, 1)):
            return "its 3x3 convolutions are not plain ones"
        if channels is not None and layer.norm1.num_features != channels:
            return "its layers do not read everything before them"
        channels = layer.norm1.num_features + conv.out_channels
    return None


def _is_pointwise(conv: nn.Module) -> bool:
    return isinstance(conv, nn.Conv2d) and conv.kernel_size == (1, 1) and conv.groups == 1 and conv.bias is None


def _layers(weights: list[torch.Tensor]) -> list[list[torch.Tensor]]:
    return [weights[start : start + 5] for start in range(0, len(weights), 5)]


def _like(x: torch.Tensor, channels: int) -> torch.Tensor:
    shape = (x.shape[0], channels, x.shape[2], x.shape[3])
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)

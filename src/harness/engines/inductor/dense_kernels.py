"""The two Triton kernels of a dense block's layer, fp16 in and out, fp32 inside.

A dense layer (Huang et al. 2017, "Densely Connected Convolutional Networks", arXiv:1608.06993) reads everything before
it and adds `growth` channels. Both kernels work on one channels-last buffer that holds the whole concatenation: the
first reads its leading channels, the second writes the new ones behind them, so nothing is ever copied together.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

FULL_GPU = 132  # programs below which a GPU of Hopper's size has idle multiprocessors
GROWTH_TILE = (64, 64, 4, 2)  # pixels, channels at a time, warps, stages: first or near it at every size on an H100


@triton.jit
def bottleneck_kernel(  # type: ignore[no-untyped-def]
    x_ptr, scale_ptr, shift_ptr, weight_ptr, bias_ptr, out_ptr, pixels, channels, x_stride, width,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, EVEN: tl.constexpr,
):  # fmt: skip
    """out[p, n] = relu(bias[n] + sum_k relu(x[p, k] * scale[k] + shift[k]) * weight[k, n])."""
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    columns = tl.program_id(1) * BN + tl.arange(0, BN)
    inner = tl.arange(0, BK)
    row_mask = rows < pixels
    column_mask = columns < width
    x_rows = x_ptr + rows.to(tl.int64)[:, None] * x_stride
    total = tl.zeros((BM, BN), dtype=tl.float32)
    for start in range(0, channels, BK):
        k = start + inner
        if EVEN:
            x = tl.load(x_rows + k[None, :], mask=row_mask[:, None], other=0.0)
            scale = tl.load(scale_ptr + k)
            shift = tl.load(shift_ptr + k)
            weight = tl.load(weight_ptr + k[:, None] * width + columns[None, :], mask=column_mask[None, :], other=0.0)
        else:  # scale and shift are 0 behind the last channel, and so is what they make of it
            inside = k < channels
            x = tl.load(x_rows + k[None, :], mask=row_mask[:, None] & inside[None, :], other=0.0)
            scale = tl.load(scale_ptr + k, mask=inside, other=0.0)
            shift = tl.load(shift_ptr + k, mask=inside, other=0.0)
            weight = tl.load(
                weight_ptr + k[:, None] * width + columns[None, :],
                mask=inside[:, None] & column_mask[None, :], other=0.0,
            )  # fmt: skip
        active = tl.maximum(x.to(tl.float32) * scale[None, :] + shift[None, :], 0.0).to(tl.float16)
        total = tl.dot(active, weight, total)
    bias = tl.load(bias_ptr + columns, mask=column_mask, other=0.0)
    result = tl.maximum(total + bias[None, :], 0.0).to(tl.float16)
    out = out_ptr + rows.to(tl.int64)[:, None] * width + columns[None, :]
    tl.store(out, result, mask=row_mask[:, None] & column_mask[None, :])


@triton.jit
def growth_kernel(  # type: ignore[no-untyped-def]
    x_ptr, weight_ptr, out_ptr, pixels, height, image_width, width, growth, out_stride,
    BM: tl.constexpr, BG: tl.constexpr, BK: tl.constexpr, CHUNKS: tl.constexpr,
):  # fmt: skip
    """3x3 convolution with padding 1: out[p] = left[p - 1] + centre[p] + right[p + 1], each a sum over three rows.

    A row's three taps share one read of the pixels as they lie, so that each is read three times and not nine; a
    program covers BM pixels and writes all but its two ends.
    """
    inner_rows = tl.arange(0, BM)
    rows = tl.program_id(0) * (BM - 2) - 1 + inner_rows
    columns = tl.arange(0, BG)
    inner = tl.arange(0, BK)
    x_place = rows % image_width
    y_place = (rows // image_width) % height
    left = tl.zeros((BM, BG), dtype=tl.float32)
    centre = tl.zeros((BM, BG), dtype=tl.float32)
    right = tl.zeros((BM, BG), dtype=tl.float32)
    for step in range(3 * CHUNKS):  # one flat loop, so that it is pipelined across the rows
        tap_row = step // CHUNKS
        n = (step % CHUNKS) * BK + inner
        dy = tap_row - 1
        there = (rows >= 0) & (rows < pixels) & (y_place + dy >= 0) & (y_place + dy < height)
        x = tl.load(
            x_ptr + (rows + dy * image_width).to(tl.int64)[:, None] * width + n[None, :],
            mask=there[:, None] & (n < width)[None, :], other=0.0,
        )  # fmt: skip
        weights = weight_ptr + (tap_row * 3 * width + n)[:, None] * growth + columns[None, :]
        mask = (n < width)[:, None] & (columns < growth)[None, :]
        left = tl.dot(x, tl.load(weights, mask=mask, other=0.0), left)
        centre = tl.dot(x, tl.load(weights + width * growth, mask=mask, other=0.0), centre)
        right = tl.dot(x, tl.load(weights + 2 * width * growth, mask=mask, other=0.0), right)
    zero = tl.zeros((BM, BG), dtype=tl.int32)
    before = zero + tl.maximum(inner_rows - 1, 0)[:, None]
    after = zero + tl.minimum(inner_rows + 1, BM - 1)[:, None]
    total = centre + tl.where((x_place > 0)[:, None], tl.gather(left, before, 0), 0.0)
    total += tl.where((x_place < image_width - 1)[:, None], tl.gather(right, after, 0), 0.0)
    written = (inner_rows > 0) & (inner_rows < BM - 1) & (rows < pixels)
    out = out_ptr + rows.to(tl.int64)[:, None] * out_stride + columns[None, :]
    tl.store(out, total.to(tl.float16), mask=written[:, None] & (columns < growth)[None, :])


def bottleneck(buffer: Any, channels: int, scale: Any, shift: Any, weight: Any, bias: Any, out: Any) -> None:
    """BatchNorm, ReLU, 1x1 convolution, BatchNorm, ReLU on the first `channels` of a channels-last `buffer`.

    buffer [B, C, H, W] fp16; scale, shift [channels] fp32; weight [channels, N] fp16; bias [N] fp32; out [B, N, H, W]
    channels-last fp16. The tile sizes are those that won on an H100 (experiments/densenet121_h100).
    """
    pixels, width = out.shape[0] * out.shape[2] * out.shape[3], out.shape[1]
    block_k, stages = (64, 3) if channels % 64 == 0 else (32, 4)
    block_n = min(128, max(16, triton.next_power_of_2(width)))
    rows = triton.cdiv(pixels, 64)
    while block_n > 32 and rows * triton.cdiv(width, block_n) < FULL_GPU:
        block_n //= 2
    bottleneck_kernel[(rows, triton.cdiv(width, block_n))](
        buffer, scale, shift, weight, bias, out, pixels, channels, buffer.shape[1], width,
        BM=64, BN=block_n, BK=block_k, EVEN=channels % block_k == 0, num_warps=4, num_stages=stages,
    )  # fmt: skip


def grow(x: Any, weight: Any, buffer: Any, start: int, tile: tuple[int, int, int, int] = GROWTH_TILE) -> None:
    """3x3 convolution of `x` into channels `start` and following of a channels-last `buffer`.

    x [B, N, H, W] channels-last fp16; weight [3, 3, N, G] fp16; buffer [B, C, H, W] channels-last fp16.
    """
    batch, width, height, image_width = x.shape
    growth, pixels = weight.shape[3], batch * height * image_width
    block_m, block_k, warps, stages = tile
    block_k = min(block_k, max(16, triton.next_power_of_2(width)))
    growth_kernel[(triton.cdiv(pixels, block_m - 2),)](
        x, weight, buffer[:, start:], pixels, height, image_width, width, growth, buffer.shape[1],
        BM=block_m, BG=max(16, triton.next_power_of_2(growth)), BK=block_k, CHUNKS=triton.cdiv(width, block_k),
        num_warps=warps, num_stages=stages,
    )  # fmt: skip

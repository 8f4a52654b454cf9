"""A candidate for the 3x3 convolution of a dense layer: each input row is read three times instead of nine.

`harness.engines.inductor.dense_kernels.growth_kernel` reads its input once for each of the nine taps, and is as fast as
the L2 cache gives it. Here the three taps of one row share a read: they make three sums for the pixels as they lie,
which are shifted by a pixel at the end. `tune.py` compares both.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl


@triton.jit
def rows_kernel(  # type: ignore[no-untyped-def]
    x_ptr, weight_ptr, out_ptr, pixels, height, image_width, width, growth, out_stride,
    BM: tl.constexpr, BG: tl.constexpr, BK: tl.constexpr, CHUNKS: tl.constexpr,
):  # fmt: skip
    """out[p] = centre[p] + left[p - 1] + right[p + 1]; a program covers BM pixels and writes all but its two ends."""
    inner_rows = tl.arange(0, BM)
    rows = tl.program_id(0) * (BM - 2) - 1 + inner_rows
    columns = tl.arange(0, BG)
    inner = tl.arange(0, BK)
    x_place = rows % image_width
    y_place = (rows // image_width) % height
    left = tl.zeros((BM, BG), dtype=tl.float32)
    centre = tl.zeros((BM, BG), dtype=tl.float32)
    right = tl.zeros((BM, BG), dtype=tl.float32)
    for step in range(3 * CHUNKS):
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


def grow_by_rows(x: Any, weight: Any, buffer: Any, start: int, tile: tuple[int, int, int, int]) -> None:
    """As `dense_kernels.grow`, with `tile` = (pixels, channels at a time, warps, stages)."""
    batch, width, height, image_width = x.shape
    growth, pixels = weight.shape[3], batch * height * image_width
    block_m, block_k, warps, stages = tile
    rows_kernel[(triton.cdiv(pixels, block_m - 2),)](
        x, weight, buffer[:, start:], pixels, height, image_width, width, growth, buffer.shape[1],
        BM=block_m, BG=max(16, triton.next_power_of_2(growth)), BK=block_k, CHUNKS=triton.cdiv(width, block_k),
        num_warps=warps, num_stages=stages,
    )  # fmt: skip

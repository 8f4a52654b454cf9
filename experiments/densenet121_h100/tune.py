"""Time the kernels of a dense layer alone, on a GPU: ours as they are and by tile, cuDNN.

python experiments/densenet121_h100/tune.py [--batch-size 256]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F
from triton.testing import do_bench

from harness.engines.inductor.dense_kernels import bottleneck, grow

SIDES = {56: 160, 28: 320, 14: 640, 7: 768}  # of a block's pixels -> channels that a layer in its middle reads
WIDTHS = ((128, 32), (64, 32))  # bottleneck and growth: the network as it is, pruned to multiples of 32
TILES = [
    (64, 64, 4, 3), (128, 64, 4, 3), (128, 64, 8, 3), (128, 128, 8, 2), (64, 64, 4, 1), (64, 64, 4, 2),
    (128, 64, 4, 1), (128, 64, 4, 2), (128, 64, 8, 1), (128, 64, 8, 2),
    (256, 64, 8, 1), (256, 64, 8, 2), (256, 32, 8, 2),
]  # fmt: skip


def channels_last(*shape: int) -> torch.Tensor:
    """Return a random fp16 tensor [B, C, H, W] in channels-last layout."""
    return torch.randn(*shape, device="cuda").half().contiguous(memory_format=torch.channels_last)


def microseconds(run: Callable[[], Any]) -> float:
    """Return the median of a short series."""
    return 1e3 * float(do_bench(run, warmup=3, rep=15, return_mode="median"))


def main() -> None:
    """Print one line a kernel and shape; a candidate that computes something else is named, not timed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-size", type=int, default=256)
    batch = parser.parse_args().batch_size
    print(torch.cuda.get_device_name())
    for side, channels in SIDES.items():
        for width, growth in WIDTHS:
            buffer = channels_last(batch, channels + growth, side, side)
            narrow = channels_last(batch, width, side, side)
            scale, shift = torch.rand(channels, device="cuda"), torch.randn(channels, device="cuda")
            pointwise = torch.randn(channels, width, device="cuda").half()
            bias = torch.randn(width, device="cuda")
            spatial = torch.randn(growth, width, 3, 3, device="cuda").half() * 0.05
            taps, kernel = spatial.permute(2, 3, 1, 0).contiguous(), spatial.to(memory_format=torch.channels_last)

            one = microseconds(lambda: bottleneck(buffer, channels, scale, shift, pointwise, bias, narrow))  # noqa: B023
            narrow = channels_last(batch, width, side, side)
            wanted = F.conv2d(narrow[:2].float(), spatial.float(), padding=1)
            three = microseconds(lambda: grow(narrow, taps, buffer, channels))  # noqa: B023
            cudnn = microseconds(lambda: F.conv2d(narrow, kernel, padding=1))  # noqa: B023
            found = []
            for tile in TILES:
                try:
                    buffer[:, channels:].fill_(float("nan"))
                    grow(narrow, taps, buffer, channels, tile)
                    apart = (buffer[:2, channels:].float() - wanted).abs().max() / wanted.abs().max()
                    if not float(apart) < 1e-2:
                        print(f"  {tile} computes something else: {float(apart):.2g} off")
                        continue
                    us = microseconds(lambda: grow(narrow, taps, buffer, channels, tile))  # noqa: B023
                    found.append((us, tile))
                except Exception as error:  # a tile that does not fit this chip
                    print(f"  {tile}: {type(error).__name__}")
            best = ", ".join(f"{us:.0f} {tile}" for us, tile in sorted(found)[:6])
            print(
                f"{side:2}x{side:<2} {channels}->{width}->{growth}: 1x1 {one:.0f} us; 3x3 {three:.0f} us, "
                f"cuDNN {cudnn:.0f} us, {best}",
                flush=True,
            )


if __name__ == "__main__":
    main()

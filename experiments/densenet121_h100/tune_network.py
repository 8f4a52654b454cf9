"""Time whole dense blocks by the number of images in flight, and the stem as it is and rearranged, on a GPU.

Fewer images in flight (all layers of a block for some images, then for the next) would keep
more of them in the L2 cache.

python experiments/densenet121_h100/tune_network.py [--batch-size 256]
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torchvision.models import densenet121
from triton.testing import do_bench_cudagraph

from harness.engines.inductor.dense_blocks import fuse_stem
from harness.engines.inductor.dense_kernels import bottleneck, grow

# side of a block's pixels -> channels before it and layers: pruned to multiples of 32, and the network as it is
BLOCKS = {
    64: {56: (32, 6), 28: (64, 12), 14: (160, 24), 7: (352, 16)},
    128: {56: (64, 6), 28: (128, 12), 14: (256, 24), 7: (512, 16)},
}
IN_FLIGHT = (512, 256, 128, 64, 32, 16)


def channels_last(*shape: int) -> torch.Tensor:
    """Return a random fp16 tensor [B, C, H, W] in channels-last layout."""
    return torch.randn(*shape, device="cuda").half().contiguous(memory_format=torch.channels_last)


def microseconds(run: Callable[[], Any]) -> float:
    """Return the median of replays of a CUDA graph."""
    return 1e3 * float(do_bench_cudagraph(run, rep=40, return_mode="median"))


def block(batch: int, side: int, width: int, first: int, count: int) -> None:
    """Print the microseconds of one block, by images in flight and 3x3 kernel."""
    buffer = channels_last(batch, first + 32 * count, side, side)
    layers = []
    for index in range(count):
        channels = first + 32 * index
        layers.append((
            channels, torch.rand(channels, device="cuda"), torch.randn(channels, device="cuda"),
            (torch.randn(channels, width, device="cuda") * 0.05).half(), torch.randn(width, device="cuda"),
            (torch.randn(3, 3, width, 32, device="cuda") * 0.05).half(),
        ))  # fmt: skip

    def run(images: int) -> None:
        narrow = torch.empty_like(buffer[:images, :width], memory_format=torch.channels_last)
        for start in range(0, batch, images):
            part = buffer[start : start + images]
            for channels, scale, shift, pointwise, bias, spatial in layers:
                bottleneck(part, channels, scale, shift, pointwise, bias, narrow)
                grow(narrow, spatial, part, channels)

    fitting = [images for images in IN_FLIGHT if images <= batch and batch % images == 0]
    found = ", ".join(f"{images}: {microseconds(lambda: run(images)):.0f}" for images in fitting)  # noqa: B023
    print(f"{side}x{side} width {width}: us by images in flight {found}", flush=True)


def stem(batch: int, outputs: int) -> None:
    """Print the microseconds of the stem as it is and rearranged."""
    features = densenet121().features[:4].eval()
    features.conv0 = nn.Conv2d(3, outputs, 7, stride=2, padding=3, bias=False)
    features.norm0 = nn.BatchNorm2d(outputs).eval()
    plain = features.cuda().half().to(memory_format=torch.channels_last)
    rearranged = copy.deepcopy(plain)
    assert fuse_stem(rearranged)
    images = torch.randn(batch, 3, 224, 224, device="cuda")
    for name, part in {"as it is": plain, "rearranged": rearranged}.items():
        run = torch.compile(lambda x: part(x.half()), dynamic=False)  # noqa: B023
        run(images)
        print(f"stem of {outputs} channels {name}: {microseconds(lambda: run(images)):.0f} us", flush=True)  # noqa: B023
        torch._dynamo.reset()


def main() -> None:
    """Print one line a block and kernel."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-size", type=int, default=256)
    batch = parser.parse_args().batch_size
    print(torch.cuda.get_device_name())
    torch.backends.cudnn.benchmark = True
    with torch.inference_mode():
        for outputs in (32, 64):
            stem(batch, outputs)
        for width, blocks in BLOCKS.items():
            for side, (first, count) in blocks.items():
                block(batch, side, width, first, count)


if __name__ == "__main__":
    main()

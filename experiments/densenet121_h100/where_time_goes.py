"""Compile a network round our dense blocks and list the kernels of one batch by their time, on a GPU.

python experiments/densenet121_h100/where_time_goes.py --batch-size 256 -- arch=pruned arch.pruned.round_to=32
"""

from __future__ import annotations

import argparse

import torch
from torch.profiler import ProfilerActivity, profile

from harness.engines.inductor import dense_blocks
from harness.sweep.command_line import compose_jobs
from harness.techniques.arch.assembled import network

REPEATS = 3


def main() -> None:
    """Print device milliseconds and calls a batch of each kernel, the largest first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args()
    (job,) = compose_jobs(arguments.overrides)
    module = network(job.config.model, job.config.arch).module.cuda().half().to(memory_format=torch.channels_last)
    dense_blocks.apply(module)
    print(torch.cuda.get_device_name(), *dense_blocks.proof(module)[1], sep="\n")
    side = job.config.model.image_size
    images = torch.randn(arguments.batch_size, 3, side, side, device="cuda")
    compiled = torch.compile(lambda x: module(x.half()).float(), fullgraph=True, dynamic=False)
    with torch.inference_mode():
        for _ in range(5):
            compiled(images)
        torch.cuda.synchronize()
        with profile(activities=[ProfilerActivity.CUDA]) as found:
            for _ in range(REPEATS):
                compiled(images)
            torch.cuda.synchronize()
    rows = sorted(found.key_averages(), key=lambda row: -row.self_device_time_total)
    total_ms = sum(row.self_device_time_total for row in rows) / 1e3 / REPEATS
    print(f"{total_ms:.3f} ms a batch, {arguments.batch_size / total_ms * 1e3:.0f} images/s if nothing waits")
    for row in rows[:30]:
        ms = row.self_device_time_total / 1e3 / REPEATS
        print(f"{ms:8.3f} ms {row.count // REPEATS:4d} x  {row.key[:120]}")


if __name__ == "__main__":
    main()

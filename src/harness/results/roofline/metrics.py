"""A cell and its machine under their metric names; what can't be told is absent."""

from __future__ import annotations

from collections.abc import Sequence

from harness.engines.base import Artifact
from harness.measure.ceilings import Ceilings
from harness.results.roofline.position import position
from harness.results.roofline.traffic import count, per_image
from harness.techniques.arch.stages import Router


def machine_metrics(ceilings: Ceilings | None) -> dict[str, float]:
    """Return the ceilings that were measured."""
    if ceilings is None:
        return {}
    named = {
        "machine/copy_gb_s": ceilings.copy_gb_s,
        "machine/matmul_fp32_tflops": ceilings.matmul_fp32_tflops,
        "machine/matmul_fp16_tflops": ceilings.matmul_fp16_tflops,
    }
    return {name: value for name, value in named.items() if value is not None}


def cell_metrics(
    artifacts: Sequence[Artifact],
    router: Router,
    batch_size: int,
    throughput_ips: float | None = None,
    ceilings: Ceilings | None = None,
) -> dict[str, float]:
    """Return what an image takes in a cell, each stage for the share that reaches it, and its share of the ceiling.

    The share is absent without a throughput (images/s) or without ceilings, all of it for a graph that can't be read or
    counted: a finished measurement is worth more than this remark on it.
    """
    shares = [router.share_reaching(number, batch_size) for number in range(len(artifacts))]
    try:
        stages = [count(artifact.plan.graph.path) for artifact in artifacts]
    except (ValueError, OSError):
        return {}
    work = per_image(zip(stages, shares, strict=True), batch_size)
    out = {"roofline/gflop_per_image": work.flop / 1e9, "roofline/mb_per_image": work.bytes / 1e6}
    if throughput_ips is not None and ceilings is not None:
        found = position(work, artifacts[0].plan.precision.dtype, throughput_ips, ceilings)
        if found is not None:
            out |= {"roofline/share": found.share, "roofline/memory_bound": float(found.memory_bound)}
    return out

"""Where a cell stands under the roof: the time its nearer ceiling allows, over the time it took."""

from __future__ import annotations

from dataclasses import dataclass

from harness.measure.ceilings import Ceilings
from harness.results.roofline.traffic import ImageWork


@dataclass(frozen=True)
class Position:
    """Of one cell."""

    share: float  # attainable time / measured time; above 1 where caches hold what the count takes to memory
    memory_bound: bool  # the nearer ceiling is the copy's, not the matrix product's


def position(work: ImageWork, dtype: str, throughput_ips: float, ceilings: Ceilings) -> Position | None:
    """Return where a cell stands that computes in `dtype` at so many images a second.

    None where no matrix product of that type was measured. The share is never clipped.
    """
    tflops = ceilings.matmul_tflops(dtype)
    if tflops is None:
        return None
    compute_s = work.flop / (tflops * 1e12)
    memory_s = work.bytes / (ceilings.copy_gb_s * 1e9)
    return Position(max(compute_s, memory_s) * throughput_ips, memory_s > compute_s)

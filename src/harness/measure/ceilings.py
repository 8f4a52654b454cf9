"""The machine's two ceilings, measured by the same means on every machine: a large copy and a large matrix product.

Data sheets give peaks that nothing reaches; these are what plain library calls reach here, in the process of a cell.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from harness.system.library_internals import int8_product

# bytes to copy (beyond any cache but the largest) and side of the square matrices, by device
SIZES = {"cuda": (1 << 30, 8192), "cpu": (1 << 28, 1536)}  # 2048 gave 6% more on two cores, in twice the time
LEAST = 3  # repetitions; more until BUDGET_S is used up
BUDGET_S = 0.15


@dataclass(frozen=True)
class Ceilings:
    """What a machine can at most."""

    copy_gb_s: float  # bytes read and written; a cache's write-allocate reads are not counted, as in STREAM
    matmul_fp32_tflops: float  # under the TF32 policy of the quartet
    matmul_fp16_tflops: float | None = None  # None on a CPU, where fp16 is emulated, as the next two
    matmul_bf16_tflops: float | None = None  # None too where no cell computes in it, as the next one
    matmul_int8_tops: float | None = None  # sums of 32 bits; None too where the library has no such product

    def matmul_tflops(self, dtype: str) -> float | None:
        """Return the ceiling of products of `dtype` (numpy's name), 10^12 operations/s; None: it was not measured."""
        return {
            "float32": self.matmul_fp32_tflops,
            "float16": self.matmul_fp16_tflops,
            "bfloat16": self.matmul_bf16_tflops,
            "int8": self.matmul_int8_tops,
        }.get(dtype)


def measure_ceilings(
    device: str, threads: int, tf32: bool, copy_bytes: int, side: int, dtypes: Collection[str] = ()
) -> Ceilings:
    """Measure on `device` ("cpu" or "cuda"), which must have nothing else to do; takes about a second.

    `threads` is for a CPU, 0 leaves torch's own choice; the matrices are [side, side]; fp32 is always measured, and
    fp16 on a GPU, others if they are among `dtypes`. It raises what torch raises, a lack of memory for instance. It
    leaves torch's number of threads and TF32 policy changed.
    """
    import torch

    if threads:
        torch.set_num_threads(threads)
    torch.backends.cuda.matmul.allow_tf32 = tf32
    requested = {"float16", *dtypes} & set(_PRODUCTS) if device == "cuda" else set()
    with torch.inference_mode():
        found = {dtype: _PRODUCTS[dtype](device, side, dtype) for dtype in sorted(requested)}
        return Ceilings(
            copy_gb_s=_copy(device, copy_bytes) / 1e9,
            matmul_fp32_tflops=_matmul(device, side, "float32"),
            matmul_fp16_tflops=found.get("float16"),
            matmul_bf16_tflops=found.get("bfloat16"),
            matmul_int8_tops=found.get("int8"),
        )


def _copy(device: str, copy_bytes: int) -> float:
    """Return bytes a second."""
    import torch

    source = torch.ones(copy_bytes // 4, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() * 4 / _median_s(lambda: target.copy_(source), device)


def _matmul(device: str, side: int, dtype: str) -> float:
    """Return 10^12 operations a second. The values are random: a chip takes less power, and runs faster, on zeros."""
    import torch

    left, right = (torch.randn(side, side, device=device).to(getattr(torch, dtype)) for _ in range(2))
    out = torch.empty_like(left)
    return 2 * side**3 / _median_s(lambda: torch.mm(left, right, out=out), device) / 1e12


def _matmul_integers(device: str, side: int, dtype: str) -> float | None:
    """Return 10^12 operations a second, None where this build or chip has no product of such integers."""
    import torch

    left, right = (torch.randint(-128, 128, (side, side), device=device, dtype=getattr(torch, dtype)) for _ in range(2))
    right = right.t()  # column by column: what the fast kernels of eight bits read
    out = torch.empty(side, side, device=device, dtype=torch.int32)
    try:
        return 2 * side**3 / _median_s(lambda: int8_product(left, right, out), device) / 1e12
    except RuntimeError:
        return None


_PRODUCTS: dict[str, Callable[[str, int, str], float | None]] = {
    "float16": _matmul, "bfloat16": _matmul, "int8": _matmul_integers,
}  # fmt: skip


def _median_s(run: Callable[[], Any], device: str) -> float:
    """Return the median duration, after one run that pays for page faults and libraries that start up lazily."""
    timed = _device_s if device == "cuda" else _wall_s
    timed(run)
    seconds: list[float] = []
    until = time.perf_counter() + BUDGET_S
    while len(seconds) < LEAST or time.perf_counter() < until:
        seconds.append(timed(run))
    return statistics.median(seconds)


def _wall_s(run: Callable[[], Any]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def _device_s(run: Callable[[], Any]) -> float:
    import torch

    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    run()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1e3

"""Percentiles of latency samples with an interval, absent when there are too few samples to speak of one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import bdtr

RISK = 0.01  # of at most one sample beyond the percentile, at the smallest n that is accepted


@dataclass(frozen=True)
class Percentile:
    """A sample percentile and the two order statistics that enclose the true one; the samples' unit."""

    q: float  # in (0, 1)
    value: float
    low: float  # -inf where no sample is low enough
    high: float  # inf where no sample is high enough
    samples: int
    level: float


def minimum_samples(q: float) -> int:
    """Return the smallest n with P[Bin(n, 1 - q) <= 1] <= 0.01: 64 for p90, 130 for p95, 662 for p99.

    With fewer, there is a real chance that at most one sample lies beyond the percentile, and then the value is
    the luck of one sample. This is the early-stopping rule of MLPerf Inference with one allowed exceedance.

    Raises:
        ValueError: unless 0 < q < 1.
    """
    _check_share(q, "q")
    beyond = 1 - q
    few, enough = 1, 2
    while bdtr(1, enough, beyond) > RISK:
        few, enough = enough, 2 * enough
    while enough - few > 1:
        middle = (few + enough) // 2
        if bdtr(1, middle, beyond) > RISK:
            few = middle
        else:
            enough = middle
    return enough


def percentile(samples: ArrayLike, q: float, level: float = 0.95) -> Percentile | None:
    """Return the q-quantile of samples [n] with a distribution-free interval, or None if n < minimum_samples(q).

    The value is the smallest sample with at least a share q of all samples at or below it. The number of samples
    below the true quantile is Bin(n, q), so the order statistics at that law's (1 - level)/2 quantiles enclose it
    (David and Nagaraja, Order Statistics, 3rd ed., section 7.1). Samples are taken as exchangeable: under
    autocorrelation the interval is too narrow, the value still stands.

    Raises:
        ValueError: if samples is not one-dimensional and finite, or q or level is outside (0, 1).
    """
    _check_share(q, "q")
    _check_share(level, "level")
    ordered = np.sort(np.asarray(samples, dtype=float))
    if ordered.ndim != 1 or not np.isfinite(ordered).all():
        raise ValueError(f"samples must be a one-dimensional array of finite numbers, got shape {ordered.shape}")
    n = ordered.size
    if n < minimum_samples(q):
        return None
    tail = (1 - level) / 2
    below = bdtr(np.arange(n), n, q)  # P[Bin(n, q) <= r], r = 0..n-1
    # x_(r) lies above the true quantile with P[Bin <= r - 1], below it with P[Bin >= r]; ranks r count from 1.
    lower_rank = int(np.searchsorted(below, tail, side="right"))
    upper_rank = int(np.searchsorted(below, 1 - tail, side="left")) + 1
    return Percentile(
        q=q,
        # the rounding keeps q * n = 9.000000000000002 from meaning the tenth sample
        value=float(ordered[int(np.ceil(round(q * n, 9))) - 1]),
        low=float(ordered[lower_rank - 1]) if lower_rank >= 1 else float("-inf"),
        high=float(ordered[upper_rank - 1]) if upper_rank <= n else float("inf"),
        samples=n,
        level=level,
    )


def _check_share(value: float, name: str) -> None:
    if not 0 < value < 1:
        raise ValueError(f"{name} must be between 0 and 1, got {value}")

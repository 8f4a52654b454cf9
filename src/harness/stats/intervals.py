"""The interval of a mean over blocks, restarts and builds: never narrower than any of these levels says.

Also with an interval: percentiles of latency samples, absent when there are too few of them to speak of one, and the
change of a throughput between two measurements of the same cell, with an interval for a whole family of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr

from harness.stats.evidence import Array, Evidence, within_runs
from harness.stats.factorial import Ratio, ratio
from harness.stats.prior import KnownSpread

# No clock and no set of blocks resolves less: identical cells on a GPU differ by 1e-4 and more, however long they are
# measured (experiments/aa_h200).
RESOLUTION = 1e-4


@dataclass(frozen=True)
class MeanInterval:
    """The mean of a series and the evidence of each level of replication on it; leading axes are series."""

    mean: Array  # [...]
    levels: tuple[Evidence, ...]
    white_replicates: (
        float  # independent blocks that the mean would be worth with white noise: fewer in unequal restarts
    )
    of_these: tuple[Evidence, ...] | None = None  # without what other builds would give; None: one build

    def half_width(self, level: float) -> Array:
        """Return the half-width at a confidence level, shape [...]: the widest over the levels of replication.

        It is never below `RESOLUTION`.
        """
        widths = (evidence.half_width(level) for evidence in self.levels)
        return np.maximum(reduce(np.maximum, widths), RESOLUTION)

    def p_value(self, distance: Array | float) -> Array:
        """Return the smallest 1 - level at which the half-width is below `distance`, shape [...]."""
        found: Array = reduce(np.maximum, (evidence.p_value(distance) for evidence in self.levels))
        return np.where(np.asarray(distance) > RESOLUTION, found, 1.0)

    def of_these_builds(self) -> MeanInterval:
        """Return what is known of the builds that were measured, whatever others would give."""
        return self if self.of_these is None else replace(self, levels=self.of_these, of_these=None)

    def effective_replicates(self) -> Array:
        """Return how many independent values the series is worth, shape [...]."""
        return reduce(np.minimum, (evidence.replicates for evidence in self.levels))


def mean_interval(
    series: Array,
    restarts: NDArray[np.intp] | None = None,
    builds: NDArray[np.intp] | None = None,
    build_spread: KnownSpread | None = None,
) -> MeanInterval:
    """Return the mean over the last axis with its evidence, nested build > restart > block.

    Builds count equally, and so do the restarts of a build, however many blocks each has: the mean is that of the
    builds' means, and a build's that of its restarts' means.

    Args:
        series: [..., B], blocks of one restart in time order.
        restarts: [B], the restart of each block, numbered from 0; None: all from one.
        builds: [B], the build of each block, numbered from 0; restarts must be nested in builds. None: one build, and
            then the interval speaks for that build only.
        build_spread: what is known of how far builds move the series; few builds say little of their own scatter.
    """
    one_run = np.zeros(series.shape[-1], dtype=np.intp)
    restarts = one_run if restarts is None else restarts
    builds = one_run if builds is None else builds
    runs = [series[..., restarts == g] for g in range(int(restarts.max()) + 1)]
    share, build_of = shares(restarts, builds)
    means = np.stack([run.mean(axis=-1) for run in runs], axis=-1)
    count = int(builds.max()) + 1
    build_means = np.stack(
        [count * np.sum((share * means)[..., build_of == build], axis=-1) for build in range(count)], axis=-1
    )
    left = means - build_means[..., build_of]
    of_restarts = between(means, share) if count == 1 else _within_builds(left, share, count)
    of_builds = between(build_means, np.full(count, 1 / count), build_spread)
    these = tuple(level for level in (within_runs(runs, share), of_restarts) if level is not None)
    sizes = np.array([run.shape[-1] for run in runs])
    white = float(1 / np.sum(share**2 / sizes))
    mean = np.sum(share * means, axis=-1)
    if of_builds is None:
        return MeanInterval(mean, these, white)
    return MeanInterval(mean, (*these, of_builds), white, these or None)  # a block a build tells nothing of its noise


def shares(restarts: NDArray[np.intp], builds: NDArray[np.intp]) -> tuple[Array, NDArray[np.intp]]:
    """Return what each restart counts for, [R], summing to 1, and the build that it belongs to, [R]."""
    _, first = np.unique(restarts, return_index=True)
    build_of = builds[first]
    of_build = np.bincount(build_of)
    return 1 / (of_build.size * of_build[build_of]), build_of


def block_shares(restarts: NDArray[np.intp], builds: NDArray[np.intp]) -> Array:
    """Return what each block counts for, [B], summing to 1: builds count equally, and so do the restarts of each."""
    share, _ = shares(restarts, builds)
    _, number, blocks = np.unique(restarts, return_inverse=True, return_counts=True)
    counted_for: Array = (share / blocks)[number]
    return counted_for


def between(means: Array, share: Array, known: KnownSpread | None = None) -> Evidence | None:
    """Return the evidence on the mean sum_g share_g mean_g from the scatter of the groups' means.

    The variance is estimated from the weighted squared deviations of the means, scaled to be unbiased when they have
    one common variance, with 1 / sum(share^2) - 1 degrees of freedom. Equal shares give the t interval over G means
    with G - 1 degrees of freedom. It holds whatever the noise inside a group does, provided that groups are
    independent.

    Args:
        means: [..., G], the mean of each group.
        share: [G], what each group counts for; sums to 1. It does not follow the number of blocks: a long restart
            tells no more about other restarts than a short one.
        known: what other measurements say of how far groups move the mean; pooled with what these say.

    Returns:
        None with fewer than two groups: one restart cannot tell what another would have given.
    """
    if share.size < 2:
        return None
    centre = np.sum(share * means, axis=-1, keepdims=True)
    squares = np.sum(share**2 * (means - centre) ** 2, axis=-1)
    true, expected = np.sum(share**2), np.sum(share**2) * (1 + np.sum(share**2)) - 2 * np.sum(share**3)
    scale = np.sqrt(squares * true / expected)
    df = float(1 / true - 1)
    if known is not None:
        variance, df = known.pooled_with(scale**2 / true, df)
        scale = np.sqrt(variance * true)
    only = np.ones((*scale.shape, 1))
    return Evidence(only, scale[..., None], df, np.full(scale.shape, 1 / true))


def _within_builds(left: Array, share: Array, builds: int) -> Evidence | None:
    """Return the evidence of restarts within their builds, from what is left of the means [..., R] without the builds'.

    None where no build has several. Restarts of all builds are taken to scatter alike.
    """
    df, true = share.size - builds, float(np.sum(share**2))
    if df < 1:
        return None
    scale = np.sqrt(np.sum(left**2, axis=-1) / df * true)
    return Evidence(np.ones((*scale.shape, 1)), scale[..., None], float(df), np.full(scale.shape, 1 / true))


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
    autocorrelation the interval is too narrow, the value is still valid.

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


MINIMUM_BLOCKS = 5  # as for a factor: fewer can't show their own noise


@dataclass(frozen=True)
class BlockSeries:
    """Throughput of one cell, block by block in time order."""

    values: Array  # [B], any unit
    restarts: NDArray[np.intp]  # [B], numbered from 0
    builds: NDArray[np.intp]  # [B], numbered from 0; restarts are nested in them


def change(before: BlockSeries, after: BlockSeries, level: float, family: int = 1) -> Ratio | None:
    """Return after / before of the mean (geometric, over blocks) with its interval; None with under 5 blocks in either.

    The two were measured at different times, so nothing they share cancels: their half-widths add in squares. With
    `family` cells looked at together, each interval has the level 1 - (1 - level) / family (Bonferroni), so that the
    chance that *any* of them misses the truth stays below 1 - level. An interval speaks for the restarts and builds
    that were measured: with one restart each, what differs between restarts is not in it.
    """
    if min(before.values.size, after.values.size) < MINIMUM_BLOCKS:
        return None
    own_level = 1 - (1 - level) / family
    means, halves = [], []
    for series in (before, after):
        found = mean_interval(np.log(series.values), series.restarts, series.builds)
        means.append(float(found.mean))
        halves.append(float(found.half_width(own_level)))
    return ratio(means[1] - means[0], math.hypot(*halves))


def joined(runs: Sequence[BlockSeries]) -> BlockSeries:
    """Return several measurements of one cell as one: their restarts and builds stay different ones.

    Builds that were made anew for each measurement look the same as one that was reused, so where every measurement
    has one build they count as one: the restarts carry what differs between the measurements.
    """
    restarts, builds = [], []
    restart = build = 0
    several = any(int(run.builds.max()) > 0 for run in runs)
    for run in runs:
        restarts.append(run.restarts + restart)
        builds.append(run.builds + (build if several else 0))
        restart, build = int(restarts[-1].max()) + 1, int(builds[-1].max()) + 1
    return BlockSeries(np.concatenate([run.values for run in runs]), np.concatenate(restarts), np.concatenate(builds))

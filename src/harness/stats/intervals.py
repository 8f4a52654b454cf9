"""The interval of a mean over blocks, restarts and builds: never narrower than any of these levels says."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from harness.stats.autocorrelation import within_runs
from harness.stats.evidence import Array, Evidence

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

    def half_width(self, level: float) -> Array:
        """Return the half-width at a confidence level, shape [...]: that of the level of replication that knows least.

        It is never below `RESOLUTION`.
        """
        widths = (evidence.half_width(level) for evidence in self.levels)
        return np.maximum(reduce(np.maximum, widths), RESOLUTION)

    def p_value(self, distance: Array | float) -> Array:
        """Return the smallest 1 - level at which the half-width is below `distance`, shape [...]."""
        found: Array = reduce(np.maximum, (evidence.p_value(distance) for evidence in self.levels))
        return np.where(np.asarray(distance) > RESOLUTION, found, 1.0)

    def effective_replicates(self) -> Array:
        """Return how many independent values the series is worth, shape [...]."""
        return reduce(np.minimum, (evidence.replicates for evidence in self.levels))


def mean_interval(
    series: Array,
    restarts: NDArray[np.intp] | None = None,
    builds: NDArray[np.intp] | None = None,
) -> MeanInterval:
    """Return the mean over the last axis with its evidence, nested build > restart > block.

    Builds count equally, and so do the restarts of a build, however many blocks each has: the mean is that of the
    builds' means, and a build's that of its restarts' means.

    Args:
        series: [..., B], blocks of one restart in time order.
        restarts: [B], the restart of each block, numbered from 0; None: all from one.
        builds: [B], the build of each block, numbered from 0; restarts must be nested in builds. None: one build, and
            then the interval speaks for that build only.
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
    levels = (within_runs(runs, share), between(means, share), between(build_means, np.full(count, 1 / count)))
    sizes = np.array([run.shape[-1] for run in runs])
    known = tuple(level for level in levels if level is not None)
    return MeanInterval(np.sum(share * means, axis=-1), known, float(1 / np.sum(share**2 / sizes)))


def shares(restarts: NDArray[np.intp], builds: NDArray[np.intp]) -> tuple[Array, NDArray[np.intp]]:
    """Return what each restart counts for, [R], summing to 1, and the build that it belongs to, [R]."""
    _, first = np.unique(restarts, return_index=True)
    build_of = builds[first]
    of_build = np.bincount(build_of)
    return 1 / (of_build.size * of_build[build_of]), build_of


def between(means: Array, share: Array) -> Evidence | None:
    """Return the evidence on the mean sum_g share_g mean_g from the scatter of the groups' means.

    The variance is estimated from the weighted squared deviations of the means, scaled to be unbiased when they have
    one common variance, with 1 / sum(share^2) - 1 degrees of freedom. Equal shares give the t interval over G means
    with G - 1 degrees of freedom. It holds whatever the noise inside a group does, provided that groups are
    independent.

    Args:
        means: [..., G], the mean of each group.
        share: [G], what each group counts for; sums to 1. It does not follow the number of blocks: a long restart
            tells no more about other restarts than a short one.

    Returns:
        None with fewer than two groups: one restart cannot tell what another would have given.
    """
    if share.size < 2:
        return None
    centre = np.sum(share * means, axis=-1, keepdims=True)
    squares = np.sum(share**2 * (means - centre) ** 2, axis=-1)
    true, expected = np.sum(share**2), np.sum(share**2) * (1 + np.sum(share**2)) - 2 * np.sum(share**3)
    scale = np.sqrt(squares * true / expected)
    only = np.ones((*scale.shape, 1))
    return Evidence(only, scale[..., None], float(1 / true - 1), np.full(scale.shape, 1 / true))

"""The interval of a mean over blocks, restarts and builds: never narrower than any of these levels says."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from harness.stats.autocorrelation import within_runs
from harness.stats.evidence import Array, Evidence
from harness.stats.replicates import between


@dataclass(frozen=True)
class MeanInterval:
    """The mean of a series and the evidence of each level of replication on it; leading axes are series."""

    mean: Array  # [...]
    levels: tuple[Evidence, ...]

    def half_width(self, level: float) -> Array:
        """Return the half-width at a confidence level, shape [...]: that of the level that knows least."""
        return reduce(np.maximum, (evidence.half_width(level) for evidence in self.levels))

    def p_value(self, distance: Array | float) -> Array:
        """Return the smallest 1 - level at which the half-width is below `distance`, shape [...]."""
        return reduce(np.maximum, (evidence.p_value(distance) for evidence in self.levels))

    def effective_replicates(self) -> Array:
        """Return how many independent values the series is worth, shape [...]."""
        return reduce(np.minimum, (evidence.replicates for evidence in self.levels))


def mean_interval(
    series: Array,
    restarts: NDArray[np.intp] | None = None,
    builds: NDArray[np.intp] | None = None,
) -> MeanInterval:
    """Return the mean over the last axis with its evidence, nested build > restart > block.

    Args:
        series: [..., B], blocks of one restart in time order.
        restarts: [B], the restart of each block, numbered from 0; None: all from one.
        builds: [B], the build of each block, numbered from 0; restarts must be nested in builds. None: one build, and
            then the interval speaks for that build only.
    """
    blocks = series.shape[-1]
    one_run = np.zeros(blocks, dtype=np.intp)
    restarts = one_run if restarts is None else restarts
    builds = one_run if builds is None else builds
    runs = [series[..., restarts == g] for g in range(int(restarts.max()) + 1)]
    levels = (within_runs(runs), between(series, restarts), between(series, builds))
    return MeanInterval(series.mean(axis=-1), tuple(level for level in levels if level is not None))

"""The change of a throughput between two measurements of the same cell, with an interval for a whole family of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.stats.evidence import Array
from harness.stats.factorial import Ratio, ratio
from harness.stats.intervals import mean_interval

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

    Builds that were made anew for each measurement can't be told from one that was kept, so where every measurement
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

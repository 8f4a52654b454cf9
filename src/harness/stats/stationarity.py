"""Whether a run stayed what it was: its first half against its second half.

An interval speaks for noise that has no memory beyond the run. A step (another user arrives, a clock changes) or a
drift of one cell breaks that, and nothing in the interval shows it. The halves of each restart are compared, each with
its own interval for autocorrelated noise: a difference beyond both says that the run was not stationary. Noise whose
memory is as long as the run (1/f) is found by its likelihood.

On a GPU whose blocks scatter by 0.05% the smallest warming is such a difference. So a run that was not stationary may
still decide what the change can't overturn: `could_move` says by how much the mean may be off.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.stats.autocorrelation import as_flicker, long_memory, within_runs
from harness.stats.evidence import Array
from harness.stats.intervals import MeanInterval

MINIMUM_HALF = 10  # blocks of all restarts in a half; with fewer, both intervals allow nearly everything
LEVEL = 0.95  # of the two intervals; `make calibrate` shows how often steady noise is flagged
LONG_MEMORY = 0.5  # probability from which noise counts as remembering the whole run
# A step near either end of a run moves its mean by more than its halves differ: by tenfold if it is a twentieth of the
# run from the end. And who measures until they decide finds the intervals of 1/f noise too narrow.
PER_DIFFERENCE = 10.0
PER_HALF_WIDTH = 3.0


@dataclass(frozen=True)
class Halves:
    """The difference of the halves' means, first minus second, and how much their intervals allow; leading axes."""

    difference: Array  # [...]
    allowed: Array  # [...]

    def differ(self) -> NDArray[np.bool_]:
        """Return where the run was not stationary, shape [...]."""
        found: NDArray[np.bool_] = np.abs(self.difference) > self.allowed
        return found


def halves(series: Array, restarts: NDArray[np.intp]) -> Halves | None:
    """Return the comparison over the last axis of series [..., B]; None with too few blocks to compare.

    Args:
        series: [..., B], blocks of one restart in time order.
        restarts: [B], the restart of each block. A restart of one block has no halves and is left out.
    """
    runs = [series[..., restarts == label] for label in np.unique(restarts)]
    runs = [run for run in runs if run.shape[-1] >= 2]
    if sum(run.shape[-1] // 2 for run in runs) < MINIMUM_HALF:
        return None
    share = np.full(len(runs), 1 / len(runs))
    firsts = [run[..., : run.shape[-1] // 2] for run in runs]
    seconds = [run[..., run.shape[-1] // 2 :] for run in runs]
    difference = np.mean([a.mean(axis=-1) - b.mean(axis=-1) for a, b in zip(firsts, seconds, strict=True)], axis=0)
    both = (within_runs(firsts, share), within_runs(seconds, share))
    widths = [evidence.half_width(LEVEL) for evidence in both if evidence is not None]
    return Halves(difference, np.hypot(*widths)) if len(widths) == 2 else None


def remembers(interval: MeanInterval) -> NDArray[np.bool_]:
    """Return where the noise of a series is as slow as its run is long, shape [...]; of its `mean_interval`."""
    found: NDArray[np.bool_] = long_memory(interval.levels[0]) > LONG_MEMORY  # the level within runs, if there is one
    return found


def could_move(interval: MeanInterval, compared: Halves | None, level: float) -> Array:
    """Return by how much the mean of ln(factor) may be off because the run was not stationary, shape [...]; 0: it was.

    Args:
        interval: the `mean_interval` of the series.
        compared: its `halves`.
        level: the confidence level of the interval of 1/f noise, where the noise is that.
    """
    moved = np.zeros(np.shape(interval.mean))
    if compared is not None:
        moved = np.where(compared.differ(), PER_DIFFERENCE * np.abs(compared.difference), moved)
    flicker = as_flicker(interval.levels[0])
    if flicker is not None:
        moved = np.where(remembers(interval), moved + PER_HALF_WIDTH * flicker.half_width(level), moved)
    return moved

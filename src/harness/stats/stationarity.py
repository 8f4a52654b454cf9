"""Whether a run was stationary: its first half against its second half.

An interval speaks for noise that has no memory beyond the run. A step (another user arrives, a clock changes) or a
drift of one cell breaks that, and nothing in the interval shows it. The halves of each restart are compared, each with
its own interval for autocorrelated noise: a difference beyond both says that the run was not stationary. Noise whose
memory is as long as the run (1/f) is found by its likelihood.

On a GPU whose blocks scatter by 0.05% the smallest warming is such a difference. So a run that was not stationary may
still support a verdict that the change can't overturn: `could_move` says by how much the mean may be off.

Does a cell's time depend on who ran before it? An F test of the predecessor, beside each factor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.stats.evidence import Array, as_flicker, long_memory, within_runs
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


@dataclass(frozen=True)
class CarryOver:
    """What the predecessor explains of a quartet's noise."""

    f: float  # mean square between predecessors over that within
    p_value: float  # of so large an F where the predecessor doesn't matter
    share: float  # of the variance, from 0 to 1, that is between predecessors; by chance alone it is not 0


def carry_over(throughput: ArrayLike, previous: Sequence[Sequence[str]]) -> CarryOver | None:
    """Return the F test of the predecessor, pooled over cells; None where there is too little to tell.

    Args:
        throughput: [blocks, cells], above 0. What a block's cells have in common is taken out first.
        previous: [blocks, cells], who was visited just before each of these visits; "" where nobody was.

    One-way analysis of variance within each cell, sums of squares added over the cells.

    """
    logs = np.log(np.asarray(throughput, dtype=float))
    if logs.ndim != 2 or logs.shape[1] < 2:
        return None
    rest = logs - logs.mean(axis=1, keepdims=True)
    names = np.asarray(previous, dtype=object)
    between = within = 0.0
    between_df = within_df = 0
    for column in range(logs.shape[1]):
        values, before = rest[:, column], names[:, column]
        groups = [values[before == name] for name in dict.fromkeys(before.tolist())]
        between += sum(len(group) * (group.mean() - values.mean()) ** 2 for group in groups)
        within += sum(float(((group - group.mean()) ** 2).sum()) for group in groups)
        between_df += len(groups) - 1
        within_df += len(values) - len(groups)
    if between_df < 1 or within_df < 1 or within <= 0:
        return None
    from scipy import stats  # takes a second to import

    f = (between / between_df) / (within / within_df)
    return CarryOver(float(f), float(stats.f.sf(f, between_df, within_df)), float(between / (between + within)))

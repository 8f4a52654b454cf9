"""The interval that a run may be stopped on: wider than the reported one until the run has shown what its noise is.

Stopping a run when its interval is narrow selects the runs whose interval is too narrow (Glynn and Whitt 1992, Ann.
Appl. Probab. 2:180: a fixed width is safe where its estimate has converged). Two kinds of noise do that, and both look
harmless in a short run:

- 1/f noise, which tens of blocks can't tell from a short memory. A run that looks autocorrelated, or that 1/f noise
  explains not much worse than anything else, is judged as if it were 1/f noise until it is long enough to tell.
- noise so slow that the run is worth a few independent blocks: how wide its interval should be is then itself not
  known. Fewer than `ENOUGH` are judged at the level that decides.

The reported interval is not touched. What this is worth, and what not, is in `experiments/calibration/table.md`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.stats.evidence import Array, as_flicker, long_memory
from harness.stats.intervals import MeanInterval

ENOUGH = 30.0  # independent blocks; an sd from so many is known to 13%
WHITE = 0.5  # of what white blocks would be worth, from which a run does not look autocorrelated
LONG = 320  # blocks after which 1/f noise that is not recognised as such is rare; half of this leaves 4% false verdicts
DOUBT = 0.2  # probability of 1/f noise below which a run is not doubted


def stopping_half_width(interval: MeanInterval, blocks: int, level: float, decision_level: float) -> Array:
    """Return the half-width, shape [...], that must be narrow enough before a run of so many blocks may be stopped.

    It is of the builds that were measured: how far others would move the mean is not for blocks to say.
    """
    interval = interval.of_these_builds()
    usual = cautious_half_width(interval, blocks, level)
    return np.where(
        _whiteness(interval) * blocks >= ENOUGH, usual, cautious_half_width(interval, blocks, decision_level)
    )


def cautious_half_width(interval: MeanInterval, blocks: int, level: float) -> Array:
    """Return the half-width at a level, shape [...], as if noise that may be 1/f noise were that."""
    flicker = as_flicker(interval.levels[0])
    usual = interval.half_width(level)
    if flicker is None:
        return usual
    return np.where(_is_known(interval, blocks), usual, np.maximum(usual, flicker.half_width(level)))


def _is_known(interval: MeanInterval, blocks: int) -> NDArray[np.bool_]:
    long_enough = (_whiteness(interval) >= WHITE) | (blocks >= LONG)
    known: NDArray[np.bool_] = long_enough & (long_memory(interval.levels[0]) <= DOUBT)
    return known


def _whiteness(interval: MeanInterval) -> Array:
    """Return the share of the blocks that are independent; infinite where only restarts speak."""
    within = interval.levels[0]
    if as_flicker(within) is None:
        return np.full(np.shape(interval.mean), np.inf)
    return within.replicates / interval.white_replicates

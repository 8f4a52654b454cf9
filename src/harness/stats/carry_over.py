"""Does a cell's time depend on who ran before it? An F test of the predecessor, beside each factor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


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

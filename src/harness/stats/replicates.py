"""The evidence between runs: restarts, or builds, as replicates of their own level."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.stats.evidence import Array, Evidence


def between(series: Array, members: NDArray[np.intp]) -> Evidence | None:
    """Return the evidence on the mean over all blocks from the scatter of the group means.

    The mean over blocks weighs each group by its share w of the blocks; its variance is estimated from the
    weighted squared deviations of the group means, scaled to be unbiased when groups have one common variance, with
    1 / sum(w^2) - 1 degrees of freedom. Equal groups give the t interval over G means with G - 1 degrees of
    freedom. It holds whatever the noise inside a group does, provided that groups are independent.

    Args:
        series: [..., B].
        members: [B], the group of each block, numbered from 0.

    Returns:
        None with fewer than two groups: one restart cannot tell what another would have given.
    """
    sizes = np.bincount(members)
    if sizes.size < 2:
        return None
    share = sizes / members.size
    means = np.stack([series[..., members == g].mean(axis=-1) for g in range(sizes.size)], axis=-1)
    centre = np.sum(share * means, axis=-1, keepdims=True)
    squares = np.sum(share**2 * (means - centre) ** 2, axis=-1)
    true, expected = np.sum(share**2), np.sum(share**2) * (1 + np.sum(share**2)) - 2 * np.sum(share**3)
    scale = np.sqrt(squares * true / expected)
    one = np.ones((*scale.shape, 1))
    return Evidence(one, scale[..., None], float(1 / true - 1), np.full(scale.shape, 1 / true))

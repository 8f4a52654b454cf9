"""The evidence between runs: restarts, or builds, as replicates of their own level."""

from __future__ import annotations

import numpy as np

from harness.stats.evidence import Array, Evidence


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

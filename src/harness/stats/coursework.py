"""The usual recipe: one mean per cell, one ratio, two thresholds, no interval. Kept to be compared with."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from harness.stats.roles import by_role
from harness.stats.verdict import Verdict

LOWER, UPPER = 0.95, 1.05  # the coursework's thresholds on the point estimate


def coursework_factor(mean_throughputs: ArrayLike) -> float:
    """Return combined * baseline / (arch * hw) of four mean throughputs, by name or in the order of the roles.

    Raises:
        ValueError: unless there are exactly four finite, positive numbers.
    """
    means = np.asarray(by_role(mean_throughputs), dtype=float)
    if means.shape != (4,):
        raise ValueError(f"four mean throughputs (baseline, arch, hw, combined), got shape {means.shape}")
    if not (np.isfinite(means).all() and (means > 0).all()):
        raise ValueError(f"mean throughputs must be finite and positive, got {means.tolist()}")
    baseline, arch, hw, combined = means
    return float((combined / arch) * (baseline / hw))


def coursework_verdict(mean_throughputs: ArrayLike) -> Verdict:
    """Return `amplify` above 1.05, `conflict` below 0.95, else `independent`: never a doubt, which is its flaw.

    Raises:
        ValueError: unless there are exactly four finite, positive numbers.
    """
    factor = coursework_factor(mean_throughputs)
    if factor > UPPER:
        return Verdict.AMPLIFY
    if factor < LOWER:
        return Verdict.CONFLICT
    return Verdict.INDEPENDENT

"""What other measurements say of a level of replication: how far a fresh set of processes, or a fresh build, goes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class KnownSpread:
    """How far another set of processes, or another build, moves a logarithm; known from other measurements."""

    sd: float
    count: int  # of sets or builds that it was found from

    def half_width(self, level: float) -> float:
        """Return the half-width of what another one would give, by Student's t."""
        from scipy.special import stdtrit  # engines name their spreads, and are looked up before anything is heavy

        return self.sd * float(stdtrit(self.count - 1, 0.5 + level / 2))

    def pooled_with(self, variance: NDArray[np.float64], df: float) -> tuple[NDArray[np.float64], float]:
        """Return a variance that was estimated from few, and its degrees of freedom, together with what is known.

        Both are taken for estimates of one variance, as in an analysis of variance. Where the few vary more than that
        makes of them, their own variance stays: not every cell varies as those did that are known.
        """
        known = self.count - 1
        together = (known * self.sd**2 + df * variance) / (known + df)
        return np.maximum(together, variance), known + df


def of_a_contrast(spreads: Iterable[KnownSpread]) -> KnownSpread | None:
    """Return how far the sum or difference of independent logarithms moves; None where none of them does."""
    moved = list(spreads)
    return KnownSpread(math.hypot(*(each.sd for each in moved)), min(each.count for each in moved)) if moved else None

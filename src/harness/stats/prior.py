"""What other measurements say of a level of replication: how far a fresh set of processes, or a fresh build, goes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit


@dataclass(frozen=True)
class KnownSpread:
    """How far another set of processes, or another build, moves a logarithm; known from other measurements."""

    sd: float  # of the natural logarithm: 0.0307 is 3.07%
    count: int  # of sets or builds that it was found from

    def __post_init__(self) -> None:
        """Raise ValueError where nothing can be known: of one, or without a spread."""
        if self.count < 2 or np.any(np.asarray(self.sd) < 0):
            raise ValueError(f"a spread is known from two or more, and not negative; got sd {self.sd} of {self.count}")

    def half_width(self, level: float) -> float:
        """Return the half-width (of the logarithm) of what another one would give, by Student's t."""
        return self.sd * float(stdtrit(self.count - 1, 0.5 + level / 2))

    def floor(self, level: float, count: int) -> float:
        """Return the least half-width that so many can have at a level, pooled with what is known: where all agree."""
        variance, df = self.pooled_with(np.zeros(()), count - 1)
        return float(stdtrit(df, 0.5 + level / 2) * np.sqrt(variance / count))

    def pooled_with(self, variance: NDArray[np.float64], df: float) -> tuple[NDArray[np.float64], float]:
        """Return a variance that was estimated from few, and its degrees of freedom, together with what is known.

        Both are taken for estimates of one variance, as in an analysis of variance (Smyth 2004, Stat. Appl. Genet. Mol.
        Biol. 3:3, has this form for many series of few values). Where the few vary more than that makes of them, their
        own variance stays: not every cell varies as those did that are known.

        Args:
            variance: [...], of single sets or builds, in squares of the logarithm.
            df: its degrees of freedom.
        """
        known = self.count - 1
        together = (known * self.sd**2 + df * variance) / (known + df)
        return np.maximum(together, variance), known + df


def of_a_contrast(spreads: Iterable[KnownSpread]) -> KnownSpread | None:
    """Return how far the sum or difference of independent logarithms moves; None where none of them does."""
    moved = list(spreads)
    return KnownSpread(math.hypot(*(each.sd for each in moved)), min(each.count for each in moved)) if moved else None

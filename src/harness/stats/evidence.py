"""What one level of replication says about a mean: a mixture of scaled t distributions around it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, stdtr, stdtrit

Array = NDArray[np.float64]

_NEWTON_STEPS = 100
_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Evidence:
    """The error of a mean, as sum_r weights[r] * scales[r] * t(df); leading axes are series, the last one is r.

    A plain t interval is the case of one component. More components stand for what is not known about the
    noise, here its autocorrelation. `replicates` is the number of independent values this level is worth.
    """

    weights: Array  # [..., R], sums to 1 over r
    scales: Array  # [..., R], in units of the mean; zero for a constant series, infinite if nothing is known
    df: float
    replicates: Array  # [...]

    def p_value(self, distance: Array | float) -> Array:
        """Return P[|error| > distance], shape [...]: two-sided, 1 at distance 0."""
        away = np.asarray(distance, dtype=float)[..., None]
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(away > 0, away / self.scales, 0.0)
        both_tails: Array = np.minimum(2 * np.sum(self.weights * stdtr(self.df, -ratio), axis=-1), 1.0)
        return both_tails

    def half_width(self, level: float) -> Array:
        """Return the h with P[|error| > h] = 1 - level, shape [...]."""
        size = np.max(self.scales, axis=-1)
        unit = np.where((size > 0) & np.isfinite(size), size, 1.0)
        # Each component alone has its quantile at scale * t, so the smallest of them is left of the root; the
        # tail is convex there, hence Newton climbs to the root from the left and never oversteps it.
        scales = np.maximum(self.scales / unit[..., None], 1e-300)
        finite = np.where(np.isfinite(scales), scales, 1.0)
        root = np.min(finite, axis=-1) * stdtrit(self.df, (1 + level) / 2)
        for _ in range(_NEWTON_STEPS):
            ratio = root[..., None] / finite
            excess = 2 * np.sum(self.weights * stdtr(self.df, -ratio), axis=-1) - (1 - level)
            slope = 2 * np.sum(self.weights * _t_density_shape(ratio, self.df) / finite, axis=-1)
            step = np.maximum(excess, 0) / np.maximum(slope, 1e-300)
            root = root + step
            if np.all(step <= _TOLERANCE * root):
                break
        return np.where(size == 0, 0.0, np.where(np.isfinite(size), root * unit, np.inf))


def nothing_known(shape: tuple[int, ...]) -> Evidence:
    """Return the evidence of a single value: an infinite interval."""
    return Evidence(np.ones((*shape, 1)), np.full((*shape, 1), np.inf), 1.0, np.ones(shape))


def _t_density_shape(x: Array, df: float) -> Array:
    norm = np.exp(gammaln((df + 1) / 2) - gammaln(df / 2)) / np.sqrt(df * np.pi)
    density: Array = norm * (1 + x * x / df) ** (-(df + 1) / 2)
    return density

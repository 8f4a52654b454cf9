"""What one level of replication says about a mean: a mixture of scaled t distributions around it.

The evidence inside a run: the mean of blocks whose noise is autocorrelated by an unknown amount.

Host noise lasts for seconds and a block for about one, so neighbouring blocks err together and a plain t interval is
far too narrow. An estimate of the autocorrelation from a short run is itself poor and too low, so that plugging it in
fails exactly where it matters. Here it is integrated out instead: a model of the noise, its exact likelihood, and a
prior. Short or strongly correlated runs then get wide intervals by themselves, long white ones the t interval.

The noise of a block is one of two kinds. The first is white noise plus an AR(1) series, whose share of the variance
is `_SHARE` and whose lag-1 coefficient is `_RHO`. Almost all of its prior is on pure AR(1); a little is on slow noise
masked by white noise, which an AR(1) fit mistakes for white. The second is white noise plus 1/f noise, whose memory is
as long as the run: an AR(1) fit sees its fast part only, and covers about half of what it says. Its likelihood tells
it from the first kind within one or two hundred blocks, at next to no cost for white noise. `make calibrate` shows what
these choices are worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

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
        size = np.asarray(distance, dtype=float)[..., None]
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(size > 0, size / self.scales, 0.0)
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


# Prior density (1 - rho)^-0.35: like the reference prior of an AR(1) coefficient, (1 - rho^2)^-0.5 (Berger and Yang
# 1994, Econometric Theory 10:461), it rises towards 1, but less, which costs less power. It starts at -0.2:
# interleaving does not produce negative rho, and more of it would let a short run claim more than white noise may.
_POINTS = 48
_LOWEST = -0.2
_PURE = 1 - (1 - _LOWEST) * ((np.arange(_POINTS) + 0.5) / _POINTS) ** (1 / 0.65)  # equally probable points
_SLOW = _PURE[_PURE >= 0.6]  # faster noise needs no separate treatment under white noise
_MASKED_SHARES = np.array([0.25, 0.5, 0.75])
_MASKED_PRIOR = 0.02

_RHO = np.concatenate([_PURE, np.tile(_SLOW, _MASKED_SHARES.size)])
_SHARE = np.concatenate([np.ones(_POINTS), np.repeat(_MASKED_SHARES, _SLOW.size)])

# Of 1/f noise: its share of the variance beside white noise, its prior probability, and how many runs its slowest part
# lasts: a mean over all time exists only where the spectrum ends somewhere.
_FLICKER_SHARE = np.array([0.25, 0.5, 0.75, 1.0])
_FLICKER_PRIOR = 0.05
_FLICKER_RUNS = 16

_LOG_PRIOR = np.log(
    np.concatenate(
        [
            np.full(_POINTS, (1 - _FLICKER_PRIOR) * (1 - _MASKED_PRIOR) / _POINTS),
            np.full(_RHO.size - _POINTS, (1 - _FLICKER_PRIOR) * _MASKED_PRIOR / (_RHO.size - _POINTS)),
            np.full(_FLICKER_SHARE.size, _FLICKER_PRIOR / _FLICKER_SHARE.size),
        ]
    )
)

# A short run of slow noise can look white and steady by luck, and then no posterior of rho is wide enough.
# Calibrated: at rho = 0.9 and sd 0.1 the false verdicts at 10 to 25 blocks fall from about 1.5% to 0.4%.
_SHORT_RUN_EXTRA = 1.2  # widening of the shortest runs; 8% are left at 60 blocks, nothing at 200
_SHORT_RUN_BLOCKS = 25.0


def variance_inflation(rho: Array, n: int) -> Array:
    """Return n * var(mean of n) / var(one) of an AR(1) series: 1 for white noise, towards n as rho -> 1.

    Source: Priestley, Spectral Analysis and Time Series (1981), section 5.3.
    """
    return (1 + rho) / (1 - rho) - 2 * rho * (1 - rho**n) / (n * (1 - rho) ** 2)


def within_runs(runs: Sequence[Array], share: Array) -> Evidence | None:
    """Return the evidence on the mean sum_g share_g mean_g, from the scatter of blocks inside each run.

    Args:
        runs: one array [..., n_g] per restart, blocks in time order. Each run has a mean of its own; all have the
            variance, rho and slow part of the noise in common.
        share: [G], what each run's mean counts for; sums to 1.

    Returns:
        None if there are several runs of one block each: then only the restarts can speak.
    """
    blocks = sum(run.shape[-1] for run in runs)
    df = blocks - len(runs)
    shape = runs[0].shape[:-1]
    if df == 0 and len(runs) > 1:
        return None
    if blocks <= 2:
        return nothing_known(shape)
    spread = np.sqrt(sum(np.var(run, axis=-1) * run.shape[-1] for run in runs) / df)[..., None]
    unit = np.where(spread > 0, spread, 1.0)
    squares = np.zeros((*shape, _LOG_PRIOR.size))
    log_weight = _LOG_PRIOR
    inflation = np.zeros(_LOG_PRIOR.size)  # variance of the overall mean / variance of one block
    for run, counts in zip(runs, share, strict=True):
        n = run.shape[-1]
        deviations = (run - run.mean(axis=-1, keepdims=True)) / unit
        likelihoods = (_run_likelihood(deviations), _flicker_likelihood(deviations))
        squares += np.concatenate([found[0] for found in likelihoods], axis=-1)
        log_weight = log_weight + np.concatenate([found[1] for found in likelihoods])
        autoregressive = _SHARE * variance_inflation(_RHO, n) + 1 - _SHARE
        inflation += counts**2 * np.concatenate([autoregressive, _flicker_inflation(n)]) / n
    log_weight = log_weight - 0.5 * df * np.log(np.maximum(squares, 1e-300))
    weights = np.exp(log_weight - log_weight.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    short_run = 1 + _SHORT_RUN_EXTRA / (1 + (blocks / _SHORT_RUN_BLOCKS) ** 3)
    scales = short_run * np.sqrt(squares / df * inflation) * spread
    worth = np.sum(weights / inflation, axis=-1)
    return Evidence(weights, scales, float(df), np.where(spread[..., 0] > 0, worth, float(blocks)))


def long_memory(evidence: Evidence) -> Array:
    """Return the probability [...] that the noise remembers as long as the run lasts, from what `within_runs` found.

    0 for evidence of another kind, which says nothing of the noise within a run.
    """
    found: Array = evidence.weights[..., _RHO.size :].sum(axis=-1)
    return found


def as_flicker(evidence: Evidence) -> Evidence | None:
    """Return the evidence that `within_runs` would give of pure 1/f noise; None for evidence of another kind."""
    if evidence.weights.shape[-1] != _LOG_PRIOR.size:
        return None
    scales = evidence.scales[..., -1:]
    return Evidence(np.ones_like(scales), scales, evidence.df, evidence.replicates)


@lru_cache(maxsize=64)
def _flicker_correlations(n: int) -> Array:
    """Return the correlations [F, n] at lags 0 to n - 1 of 1/f noise beside white noise, for each share.

    The spectrum is 1/f from one period in 16 runs to one in two blocks.
    """
    periods = _FLICKER_RUNS * n
    spectrum = np.concatenate([[0.0], 1 / np.arange(1, periods // 2 + 1)])
    covariance = np.fft.irfft(spectrum, periods)[:n]
    correlations: Array = _FLICKER_SHARE[:, None] * covariance / covariance[0]
    correlations[:, 0] = 1.0
    return correlations


def _flicker_inflation(n: int) -> Array:
    """Return n * var(mean of n) / var(one) of 1/f noise beside white noise, [F]."""
    pairs = np.concatenate([[n], 2.0 * np.arange(n - 1, 0, -1)])  # of blocks, by the lag between them
    inflation: Array = _flicker_correlations(n) @ pairs / n
    return inflation


def _flicker_likelihood(deviations: Array) -> tuple[Array, Array]:
    """Return squares [..., F] and a log factor [F] of one run [..., n], as `_run_likelihood` does.

    Durbin and Levinson's recursion predicts each block from those before it (Brockwell and Davis, Time Series: Theory
    and Methods, 1991, section 5.2).
    """
    n = deviations.shape[-1]
    correlations = _flicker_correlations(n)
    count = len(correlations)
    variance, weights = np.ones(count), np.zeros((count, 0))  # of the next prediction, on the latest block first
    yy, yu = np.zeros((*deviations.shape[:-1], count)), np.zeros((*deviations.shape[:-1], count))
    uu, log_determinant = np.zeros(count), np.zeros(count)
    for t in range(n):
        error = deviations[..., t, None] - deviations[..., :t][..., ::-1] @ weights.T
        error_of_ones = 1 - weights.sum(axis=-1)
        yy += error**2 / variance
        yu += error * error_of_ones / variance
        uu += error_of_ones**2 / variance
        log_determinant += np.log(variance)
        if t + 1 < n:
            ahead = np.sum(weights * correlations[:, t:0:-1], axis=-1)
            partial = (correlations[:, t + 1] - ahead) / variance
            weights = np.concatenate([weights - partial[:, None] * weights[:, ::-1], partial[:, None]], axis=-1)
            variance = variance * (1 - partial**2)
    return np.maximum(yy - yu**2 / uu, 0.0), -0.5 * (log_determinant + np.log(uu))


def _run_likelihood(deviations: Array) -> tuple[Array, Array]:
    """Return what one run [..., n] says at each of the R points: squares [..., R] and a log factor [R].

    With C the correlation matrix of the n blocks and u a vector of ones, squares is y' C^-1 y at the generalised least
    squares mean, the factor |C|^-1/2 (u' C^-1 u)^-1/2, and the likelihood with mean and variance integrated out is
    factor * squares^(-(n - 1) / 2). A Kalman filter over the AR(1) part gives all of them in n steps (Harvey,
    Forecasting, Structural Time Series Models and the Kalman Filter, 1989, section 3.4).
    """
    state_variance = _SHARE.copy()
    state, state_of_ones = np.zeros((*deviations.shape[:-1], _RHO.size)), np.zeros(_RHO.size)
    yy, yu = np.zeros_like(state), np.zeros_like(state)
    uu, log_determinant = np.zeros(_RHO.size), np.zeros(_RHO.size)
    for t in range(deviations.shape[-1]):
        variance = state_variance + 1 - _SHARE
        gain = state_variance / variance
        error, error_of_ones = deviations[..., t, None] - state, 1 - state_of_ones
        weighted = error / variance
        yy += error * weighted
        yu += weighted * error_of_ones
        uu += error_of_ones**2 / variance
        log_determinant += np.log(variance)
        state = _RHO * (state + gain * error)
        state_of_ones = _RHO * (state_of_ones + gain * error_of_ones)
        state_variance = _RHO**2 * state_variance * (1 - gain) + (1 - _RHO**2) * _SHARE
    return np.maximum(yy - yu**2 / uu, 0.0), -0.5 * (log_determinant + np.log(uu))

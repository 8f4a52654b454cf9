"""The evidence inside a run: the mean of blocks whose noise is autocorrelated by an unknown amount.

Host noise lasts for seconds and a block for about one, so neighbouring blocks err together and a plain t interval is
far too narrow. An estimate of the autocorrelation from a short run is itself poor and too low, so that plugging it in
fails exactly where it matters. Here it is integrated out instead: a model of the noise, its exact likelihood, and a
prior. Short or strongly correlated runs then get wide intervals by themselves, long white ones the t interval.

The noise of a block is white noise plus an AR(1) series, whose share of the variance is `_SHARE` and whose lag-1
coefficient is `_RHO`. Almost all of the prior is on pure AR(1); a little is on slow noise masked by white noise,
which an AR(1) fit mistakes for white: with half of the variance at rho = 0.9, coverage at 200 blocks is 68% without
it and 93% with it. At 40 to 60 blocks it stays at 83%: so little slow noise can't be seen yet. `make calibrate` shows
what these choices are worth.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.stats.evidence import Array, Evidence, nothing_known

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
_LOG_PRIOR = np.log(
    np.concatenate(
        [
            np.full(_POINTS, (1 - _MASKED_PRIOR) / _POINTS),
            np.full(_RHO.size - _POINTS, _MASKED_PRIOR / (_RHO.size - _POINTS)),
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


def within_runs(runs: Sequence[Array]) -> Evidence | None:
    """Return the evidence on the mean of all blocks, from the scatter of blocks inside each run.

    Args:
        runs: one array [..., n_g] per restart, blocks in time order. Each run has a mean of its own; all share the
            variance, rho and share of the noise.

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
    squares = np.zeros((*shape, _RHO.size))
    log_weight = _LOG_PRIOR
    inflation = np.zeros(_RHO.size)  # variance of the overall mean / variance of one block
    for run in runs:
        n = run.shape[-1]
        run_squares, log_norm = _run_likelihood((run - run.mean(axis=-1, keepdims=True)) / unit)
        squares += run_squares
        log_weight = log_weight + log_norm
        inflation += n * (_SHARE * variance_inflation(_RHO, n) + 1 - _SHARE) / blocks**2
    log_weight = log_weight - 0.5 * df * np.log(np.maximum(squares, 1e-300))
    weights = np.exp(log_weight - log_weight.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    short_run = 1 + _SHORT_RUN_EXTRA / (1 + (blocks / _SHORT_RUN_BLOCKS) ** 3)
    scales = short_run * np.sqrt(squares / df * inflation) * spread
    worth = np.sum(weights / inflation, axis=-1)
    return Evidence(weights, scales, float(df), np.where(spread[..., 0] > 0, worth, float(blocks)))


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

"""The evidence inside a run: a mean of blocks whose noise may be autocorrelated, by how much being unknown.

Host noise lasts for seconds, a block for a second, so neighbouring blocks err together and a plain t interval is
far too narrow. An estimate of the autocorrelation rho from a short run is itself poor and too low, so that a
plug-in correction fails where it matters most. Here rho is integrated out instead: an AR(1) model of the block
series, its exact likelihood, and a reference prior. Short or strongly correlated runs then get wide intervals by
themselves, and a long white run gets the t interval (docs: measurement.md, `make calibrate`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.stats.evidence import Array, Evidence, nothing_known

# The density of the reference prior of an AR(1) coefficient is (1 - rho^2)^(-1/2) (Berger and Yang 1994,
# Noninformative priors and Bayesian testing for the AR(1) model, Econometric Theory 10:461). It is used on [0, 1):
# negative rho, which interleaving does not produce, would only let short runs claim more than white noise does.
_POINTS = 64
_RHO = np.sin((np.arange(_POINTS) + 0.5) / _POINTS * np.pi / 2)  # equal weights at these points are that prior


def variance_inflation(rho: Array, n: int) -> Array:
    """Return n * var(mean of n) / var(one) of an AR(1) series: 1 for white noise, towards n as rho -> 1.

    Source: Priestley, Spectral Analysis and Time Series (1981), section 5.3.
    """
    return (1 + rho) / (1 - rho) - 2 * rho * (1 - rho**n) / (n * (1 - rho) ** 2)


def within_runs(runs: Sequence[Array]) -> Evidence | None:
    """Return the evidence on the mean of all blocks, from the scatter of blocks inside each run.

    Args:
        runs: one array [..., n_g] per restart, blocks in time order; each run has a mean of its own, all share
            rho and the variance.

    Returns:
        None if no run has two blocks and there is more than one run: then only the restarts can speak.
    """
    blocks = sum(run.shape[-1] for run in runs)
    df = blocks - len(runs)
    shape = runs[0].shape[:-1]
    if df == 0:
        return None if len(runs) > 1 else nothing_known(shape)
    if blocks == 2:
        return nothing_known(shape)
    spread = np.sqrt(sum(np.var(run, axis=-1) * run.shape[-1] for run in runs) / df)
    unit = np.where(spread > 0, spread, 1.0)[..., None]
    one_minus = 1 - _RHO**2
    squares = np.zeros((*shape, _POINTS))
    log_prior_terms = np.zeros(_POINTS)
    inflation = np.zeros(_POINTS)
    for run in runs:
        n = run.shape[-1]
        squares += _residual_squares((run - run.mean(axis=-1, keepdims=True)) / unit)
        information = (1 - _RHO) * (n - (n - 2) * _RHO) / one_minus  # 1' R^-1 1
        log_prior_terms -= 0.5 * ((n - 1) * np.log(one_minus) + np.log(information))
        inflation += n * variance_inflation(_RHO, n) / blocks**2
    # p(rho | run), the mean and the variance integrated out: |R|^-1/2 (1'R^-1 1)^-1/2 squares^(-df/2)
    log_weight = log_prior_terms - 0.5 * df * np.log(np.maximum(squares, 1e-300))
    weights = np.exp(log_weight - log_weight.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    scales = np.sqrt(squares / df * inflation) * np.where(spread > 0, spread, 0.0)[..., None]
    worth = np.sum(weights / inflation, axis=-1)
    return Evidence(weights, scales, float(df), np.where(spread > 0, worth, float(blocks)))


def _residual_squares(deviations: Array) -> Array:
    """Return (y - mu)' R^-1 (y - mu) at the generalised least squares mu, for each rho: [..., n] -> [..., R].

    R is the AR(1) correlation matrix; its inverse is tridiagonal, so four sums of the series suffice.
    """
    n = deviations.shape[-1]
    first, last = deviations[..., :1], deviations[..., -1:]
    total = np.sum(deviations**2, axis=-1, keepdims=True)
    lagged = np.sum(deviations[..., 1:] * deviations[..., :-1], axis=-1, keepdims=True)
    ends = first**2 + last**2 if n > 1 else first**2
    quadratic = total + _RHO**2 * (total - ends) - 2 * _RHO * lagged
    # The arithmetic mean is not the generalised least squares one, which gives the two ends more weight.
    shift = (_RHO * (1 - _RHO) * (first + last)) ** 2 / ((1 - _RHO) * (n - (n - 2) * _RHO))
    return np.maximum(quadratic - shift, 0.0) / (1 - _RHO**2)

"""The interval's parts against independent calculations, and its promise under evidence."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from scipy import stats
from scipy.linalg import toeplitz

from harness.stats import estimate, evidence
from harness.stats.evidence import Evidence, variance_inflation
from harness.stats.intervals import between, mean_interval


def ar1(rng: np.random.Generator, series: int, blocks: int, rho: float, sd: float = 0.1) -> np.ndarray:
    steps = rng.standard_normal((series, blocks))
    steps[:, 1:] *= np.sqrt(1 - rho**2)
    for b in range(1, blocks):
        steps[:, b] += rho * steps[:, b - 1]
    return sd * steps


def plain_t_half_width(series: np.ndarray) -> np.ndarray:
    blocks = series.shape[-1]
    return stats.t.ppf(0.975, blocks - 1) * series.std(axis=-1, ddof=1) / np.sqrt(blocks)


@pytest.mark.parametrize(("rho", "least"), [(0.0, 0.93), (0.6, 0.90), (0.9, 0.90)])
def test_the_interval_covers_under_autocorrelation_where_plain_t_does_not(rho: float, least: float) -> None:
    series = ar1(np.random.default_rng(11), 300, 200, rho)
    error = np.abs(series.mean(axis=-1))
    covered = np.mean(error <= mean_interval(series).half_width(0.95))
    assert covered >= least
    if rho:
        assert np.mean(error <= plain_t_half_width(series)) < least
    else:
        assert covered <= 0.98


@pytest.mark.parametrize("blocks", [10, 25])
def test_short_correlated_runs_do_not_invent_an_interaction(blocks: int) -> None:
    series = ar1(np.random.default_rng(12), 600, blocks, 0.9)
    log_bound = np.log(1.05)
    mean = np.abs(series.mean(axis=-1))
    assert np.mean(mean - mean_interval(series).half_width(0.95) > log_bound) <= 0.01
    assert np.mean(mean - plain_t_half_width(series) > log_bound) > 0.1


def test_a_long_white_run_is_worth_nearly_all_of_its_blocks() -> None:
    series = ar1(np.random.default_rng(13), 200, 200, 0.0)
    interval = mean_interval(series)
    assert np.median(interval.half_width(0.95) / plain_t_half_width(series)) < 1.1
    assert 150 < np.median(interval.effective_replicates()) < 230


def test_a_batch_of_series_is_estimated_as_each_alone() -> None:
    series = ar1(np.random.default_rng(14), 5, 24, 0.6)
    groups = np.repeat(np.arange(3), 8)
    together = mean_interval(series, groups).half_width(0.95)
    blocks = np.exp(np.stack([np.zeros_like(series)] * 3 + [series], axis=-1))
    alone = [estimate(one, groups).half_width for one in blocks]
    assert together == pytest.approx(alone, rel=1e-6)


def test_the_filter_is_the_exact_likelihood() -> None:
    """Against the full covariance matrix: white noise of share 1 - s plus AR(1) of share s."""
    y = np.random.default_rng(15).standard_normal(12)
    squares, log_factor = evidence._run_likelihood(y)
    ones = np.ones(12)
    for point in (3, 30, 47, 60, len(evidence._RHO) - 1):
        rho, share = evidence._RHO[point], evidence._SHARE[point]
        covariance = share * toeplitz(rho ** np.arange(12)) + (1 - share) * np.eye(12)
        inverse = np.linalg.inv(covariance)
        mean = ones @ inverse @ y / (ones @ inverse @ ones)
        assert squares[point] == pytest.approx((y - mean) @ inverse @ (y - mean), rel=1e-6)
        expected = -0.5 * (np.linalg.slogdet(covariance)[1] + np.log(ones @ inverse @ ones))
        assert log_factor[point] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("rho", [-0.2, 0.0, 0.5, 0.95])
@pytest.mark.parametrize("n", [1, 2, 17])
def test_variance_inflation_is_that_of_the_correlation_matrix(rho: float, n: int) -> None:
    assert variance_inflation(np.array(rho), n) == pytest.approx(toeplitz(rho ** np.arange(n)).sum() / n)


def test_evidence_of_one_component_is_a_t_interval() -> None:
    evidence = Evidence(np.ones((1, 1)), np.array([[0.3]]), 7.0, np.ones(1))
    assert evidence.half_width(0.9) == pytest.approx(0.3 * stats.t.ppf(0.95, 7))
    assert evidence.p_value(0.5) == pytest.approx(2 * stats.t.sf(0.5 / 0.3, 7))


def test_half_width_and_p_value_are_inverse_to_each_other() -> None:
    weights, scales = np.array([[0.7, 0.28, 0.02]]), np.array([[1.0, 3.0, 200.0]])
    evidence = Evidence(weights, scales, 4.0, np.ones(1))
    for level in (0.5, 0.9, 0.95, 0.999):
        assert evidence.p_value(evidence.half_width(level)) == pytest.approx(1 - level, rel=1e-6)


def test_the_spread_between_uneven_groups_is_unbiased() -> None:
    """Groups with means of one common variance: the squared scale must be the variance of the weighted mean."""
    share = np.array([1, 2, 3, 6]) / 12
    evidence = between(np.random.default_rng(16).standard_normal((40_000, 4)), share)
    assert evidence is not None
    assert np.mean(evidence.scales**2) == pytest.approx(np.sum(share**2), rel=0.03)


def test_importing_the_room_loads_nothing_heavy() -> None:
    heavy = ("torch", "mlflow", "pandas", "scipy.stats")
    code = f"import sys, harness.stats; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_many_series_at_once_are_what_each_is_alone() -> None:
    series = ar1(np.random.default_rng(21), 3, 30, 0.5) * np.array([[1.0], [100.0], [0.0]])
    together = mean_interval(series)
    for number, one in enumerate(series):
        alone = mean_interval(one)
        assert together.half_width(0.95)[number] == pytest.approx(float(alone.half_width(0.95)))
        assert together.p_value(0.1)[number] == pytest.approx(float(alone.p_value(0.1)))


def test_a_mixtures_width_and_p_value_are_each_others_inverse_whatever_the_unit() -> None:
    for unit in (1e-6, 1.0, 1e6):
        mixture = Evidence(np.array([[0.2, 0.8]]), unit * np.array([[1.0, 3.0]]), 4.0, np.array([9.0]))
        for level in (0.5, 0.95, 0.999):
            assert mixture.p_value(mixture.half_width(level)) == pytest.approx(1 - level, rel=1e-6)
        assert mixture.p_value(0.0) == 1 and mixture.p_value(1e9 * unit) < 1e-6

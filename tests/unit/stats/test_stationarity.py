"""What counts as a run that did not stay what it was, and how rarely steady noise does."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import toeplitz

from harness.stats import evidence
from harness.stats.intervals import mean_interval
from harness.stats.stationarity import halves, remembers


def one_run(blocks: int) -> np.ndarray:
    return np.zeros(blocks, dtype=np.intp)


def ar1(rng: np.random.Generator, count: int, blocks: int, rho: float) -> np.ndarray:
    steps = rng.standard_normal((count, blocks))
    steps[:, 1:] *= np.sqrt(1 - rho**2)
    for b in range(1, blocks):
        steps[:, b] += rho * steps[:, b - 1]
    return steps


def flicker(rng: np.random.Generator, count: int, blocks: int) -> np.ndarray:
    """1/f noise cut out of a series sixteen times as long."""
    frequencies = np.arange(1, 8 * blocks + 1)
    amplitudes = rng.standard_normal((count, frequencies.size)) + 1j * rng.standard_normal((count, frequencies.size))
    spectrum = np.concatenate([np.zeros((count, 1)), amplitudes / np.sqrt(frequencies)], axis=1)
    return np.fft.irfft(spectrum, 16 * blocks)[:, :blocks]


@pytest.mark.parametrize("rho", [0.0, 0.9])
@pytest.mark.parametrize("blocks", [28, 160])
def test_steady_noise_is_rarely_flagged(rho: float, blocks: int) -> None:
    series = ar1(np.random.default_rng(2), 200, blocks, rho)
    found = halves(series, one_run(blocks))
    assert found is not None
    assert np.mean(found.differ() | remembers(mean_interval(series, one_run(blocks)))) <= 0.05


def test_a_step_of_five_standard_deviations_is_found() -> None:
    series = ar1(np.random.default_rng(4), 100, 40, 0.0)
    series[:, 20:] += 5
    found = halves(series, one_run(40))
    assert found is not None and np.mean(found.differ()) > 0.95
    assert np.all(np.sign(found.difference) == -1)


def test_noise_as_slow_as_the_run_is_found() -> None:
    assert np.mean(remembers(mean_interval(flicker(np.random.default_rng(6), 100, 300), one_run(300)))) > 0.8


def test_too_few_blocks_to_compare_are_not_compared() -> None:
    assert halves(np.zeros((1, 19)), one_run(19)) is None
    assert halves(np.zeros((1, 12)), np.arange(12)) is None


def test_halves_are_those_of_each_restart() -> None:
    series = np.concatenate([np.full(12, 5.0), np.full(12, -5.0)])  # restarts may differ, and these are steady
    series += 0.01 * np.random.default_rng(1).standard_normal(24)
    found = halves(series, np.repeat([0, 1], 12))
    assert found is not None and not found.differ()
    assert float(found.difference) == pytest.approx(0, abs=0.02)


def test_the_likelihood_of_slow_noise_is_that_of_its_correlation_matrix() -> None:
    series = np.random.default_rng(9).standard_normal((3, 40))
    squares, factor = evidence._flicker_likelihood(series)
    for f, correlations in enumerate(evidence._flicker_correlations(40)):
        matrix = toeplitz(correlations)
        inverse, ones = np.linalg.inv(matrix), np.ones(40)
        of_ones = ones @ inverse @ ones
        expected = [y @ inverse @ y - (y @ inverse @ ones) ** 2 / of_ones for y in series]
        assert squares[:, f] == pytest.approx(expected)
        assert factor[f] == pytest.approx(-0.5 * (np.linalg.slogdet(matrix)[1] + np.log(of_ones)))
        assert evidence._flicker_inflation(40)[f] == pytest.approx(matrix.sum() / 40)

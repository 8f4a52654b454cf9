"""What may end a run: an interval that is narrow also if the noise is worse than a short run can show."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.stats import estimate
from harness.stats.intervals import mean_interval
from harness.stats.sequential import ENOUGH, LONG, cautious_half_width, stopping_half_width

LEVELS = (0.95, 0.99)


def noise(rho: float, blocks: int, runs: int = 40, seed: int = 0) -> np.ndarray:
    """Return AR(1) series of variance 1, [runs, blocks]."""
    series = np.random.default_rng(seed).standard_normal((runs, blocks))
    series[:, 1:] *= math.sqrt(1 - rho**2)
    for b in range(1, blocks):
        series[:, b] += rho * series[:, b - 1]
    return series


def flicker(blocks: int, runs: int = 40, seed: int = 0) -> np.ndarray:
    """Return 1/f noise cut out of a series four times as long, [runs, blocks]."""
    rng, count = np.random.default_rng(seed), 2 * blocks
    spectrum = (rng.standard_normal((runs, count)) + 1j * rng.standard_normal((runs, count))) / np.sqrt(
        np.arange(1, count + 1)
    )
    series = np.fft.irfft(np.concatenate([np.zeros((runs, 1)), spectrum], axis=1), 2 * count)
    return series[:, :blocks] / series.std()


def widened(series: np.ndarray) -> np.ndarray:
    """Return how many times as wide as the reported interval the one is that a run may be stopped on."""
    interval = mean_interval(series)
    return stopping_half_width(interval, series.shape[-1], *LEVELS) / interval.half_width(LEVELS[0])


@pytest.mark.parametrize("series", [noise(0, 57), noise(0.6, 57), flicker(57), flicker(LONG)])
def test_it_is_never_narrower_than_the_reported_interval(series):
    assert np.all(widened(series) >= 1)


def test_white_noise_is_stopped_on_its_own_interval_and_autocorrelated_noise_not_before_it_is_long():
    assert np.mean(widened(noise(0, 80)) == 1) > 0.8
    assert np.mean(widened(noise(0.6, 80)) > 1.05) > 0.9  # it might be 1/f noise
    assert np.mean(widened(noise(0.6, LONG)) == 1) > 0.9  # by now it is known not to be


def test_1_over_f_noise_is_not_stopped_on_an_interval_that_leaves_its_mean_out():
    series = flicker(LONG, runs=200)[:, :80]
    interval = mean_interval(series)
    reported, stopping = interval.half_width(0.95), stopping_half_width(interval, 80, *LEVELS)
    missed = [np.mean(np.abs(interval.mean) > width) for width in (reported, stopping)]
    assert missed[0] > 0.2 and missed[1] < missed[0] / 2


def test_few_independent_blocks_are_judged_at_the_level_that_decides():
    few = mean_interval(noise(0.9, LONG))
    assert np.all(few.levels[0].replicates[:5] < ENOUGH)
    expected = cautious_half_width(few, LONG, LEVELS[1])
    assert stopping_half_width(few, LONG, *LEVELS)[:5] == pytest.approx(expected[:5])


def test_restarts_of_unequal_size_do_not_look_autocorrelated_for_that():
    """The mean of the restarts' means is worth less than their blocks, and white noise is white all the same."""
    sizes = (188, 10, 10, 10, 19, 20, 18, 10)
    labels = np.repeat(np.arange(len(sizes)), sizes)
    interval = mean_interval(noise(0, sum(sizes)), labels)
    stopping = stopping_half_width(interval, sum(sizes), *LEVELS)
    assert np.mean(stopping == interval.half_width(LEVELS[0])) > 0.8


def test_where_only_restarts_speak_their_interval_is_taken():
    one_block_each = mean_interval(noise(0, 12, runs=1)[0], np.arange(12))
    assert stopping_half_width(one_block_each, 12, *LEVELS) == one_block_each.half_width(0.95)


def test_a_verdict_that_ends_a_run_holds_with_1_over_f_noise_too():
    """The same blocks: decided by who looks once, open for who would stop at the verdict."""
    series = noise(0.6, 80, runs=1, seed=2)[0]
    blocks = np.exp(np.stack([0 * series, 0 * series, 0 * series, 0.01 * series], axis=1))
    widths = [estimate(blocks).half_width, float(cautious_half_width(mean_interval(0.01 * series), 80, 0.99))]
    strict = float(mean_interval(0.01 * series).half_width(0.99))
    shift = math.log(1.05) + (strict + widths[1]) / 2 - math.log(estimate(blocks).factor)
    blocks[:, 3] *= math.exp(shift)
    assert estimate(blocks).verdict == "amplify"
    assert estimate(blocks, decision_level=0.99).verdict == "inconclusive"

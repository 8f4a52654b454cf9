"""Percentiles: how many samples they need, and an interval that covers."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.stats import minimum_samples, percentile


def at_most_one_beyond(n: int, q: float) -> float:
    return q**n + n * (1 - q) * q ** (n - 1)


@pytest.mark.parametrize(("q", "n"), [(0.5, 11), (0.9, 64), (0.95, 130), (0.99, 662)])
def test_the_known_minimum_sample_counts(q: float, n: int) -> None:
    assert minimum_samples(q) == n


@settings(max_examples=50, deadline=None)
@given(st.floats(0.01, 0.999))
def test_the_minimum_is_the_smallest(q: float) -> None:
    n = minimum_samples(q)
    assert at_most_one_beyond(n, q) <= 0.01 * (1 + 1e-9)
    assert n == 2 or at_most_one_beyond(n - 1, q) > 0.01 * (1 - 1e-9)


@pytest.mark.parametrize("q", [0.5, 0.9, 0.99])
def test_a_percentile_with_too_few_samples_is_absent(q: float) -> None:
    n = minimum_samples(q)
    assert percentile(np.arange(n - 1.0), q) is None
    assert percentile(np.arange(float(n)), q) is not None


@pytest.mark.parametrize(
    ("n", "q", "level"),
    [
        (64, 0.9, 0.95),
        (100, 0.9, 0.95),
        (130, 0.95, 0.95),
        (25, 0.5, 0.95),
        (1000, 0.99, 0.95),
        (10, 0.05, 0.95),  # no sample is low enough
        (11, 0.3, 0.95),  # the lowest is just low enough
        (22, 0.7, 0.999),  # the highest is just high enough
    ],
)
def test_the_interval_is_the_tightest_pair_of_ranks_that_covers(n: int, q: float, level: float) -> None:
    """By brute force: sample i (from 1) is the value i, so that values are ranks."""
    found = percentile(np.random.default_rng(0).permutation(np.arange(1.0, n + 1)), q, level)
    assert found is not None
    assert (found.q, found.samples, found.level) == (q, n, level)
    tail = (1 - level) / 2
    pmf = [comb(n, k) * q**k * (1 - q) ** (n - k) for k in range(n + 1)]
    below = np.cumsum(pmf)
    lowest = max((r for r in range(1, n + 1) if below[r - 1] <= tail), default=None)
    highest = min((r for r in range(1, n + 1) if below[r - 1] >= 1 - tail), default=None)
    assert found.low == (lowest if lowest is not None else -np.inf)
    assert found.high == (highest if highest is not None else np.inf)
    assert found.value == np.ceil(round(q * n, 9))
    assert found.low <= found.value <= found.high


def test_the_interval_covers_the_true_percentile() -> None:
    rng = np.random.default_rng(3)
    true = -np.log(0.1)  # p90 of an exponential
    found = [percentile(rng.exponential(size=200), 0.9) for _ in range(600)]
    share = np.mean([one.low <= true <= one.high for one in found if one is not None])
    assert 0.93 <= share <= 0.99


def test_no_upper_bound_where_no_sample_is_high_enough() -> None:
    found = percentile(np.arange(64.0), 0.9, level=0.9999)
    assert found is not None
    assert found.high == np.inf


def test_the_ranks_named_as_edges_above_are_edges() -> None:
    samples = [np.arange(1.0, n + 1) for n in (10, 11, 22)]
    found = [percentile(*one) for one in zip(samples, (0.05, 0.3, 0.7), (0.95, 0.95, 0.999), strict=True)]
    assert [one.low for one in found[:2] if one] == [-np.inf, 1.0]
    assert found[2] is not None and found[2].high == 22.0


@pytest.mark.parametrize("q", [0.0, 1.0, 95.0])
def test_q_is_a_share(q: float) -> None:
    for refused in (lambda: percentile(np.arange(100.0), q), lambda: minimum_samples(q)):
        with pytest.raises(ValueError, match=f"^q must be between 0 and 1, got {q}$"):
            refused()
    with pytest.raises(ValueError, match=f"^level must be between 0 and 1, got {q}$"):
        percentile(np.arange(100.0), 0.5, level=q)


@pytest.mark.parametrize("samples", [[[1.0, 2.0]], [1.0, float("nan")]])
def test_samples_are_finite_numbers_in_a_row(samples: list[float]) -> None:
    with pytest.raises(ValueError):
        percentile(samples, 0.5)

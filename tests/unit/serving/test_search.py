"""The search finds the rate at the bound of a queue that theory knows, keeps every point, says when there is none."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from called import mean_wait_md1_s
from harness.serving.policy import BatchPolicy
from harness.serving.queueing import Point, highest_rate, simulate

SERVICE_S = 0.01
ONE = BatchPolicy(1, static=True)


def md1(bound_ms: float, seed: int = 1):
    """Return a `measure` of a simulated M/D/1 queue whose mean latency must be within the bound."""

    def measure(rate_per_s: float) -> Point:
        arrivals = np.cumsum(np.random.default_rng(seed).exponential(1 / rate_per_s, 50_000))
        mean_ms = float(simulate(arrivals, {1: [SERVICE_S]}, ONE).latency_s.mean() * 1e3)
        valid = mean_ms <= bound_ms
        return Point(rate_per_s, rate_per_s, rate_per_s, mean_ms, valid, "" if valid else f"{mean_ms:.1f} ms")

    return measure


def step(limit: float):
    return lambda rate: Point(rate, rate, rate, 1.0, rate <= limit, "" if rate <= limit else "too fast")


@pytest.mark.parametrize("guess", [5.0, 60.0, 95.0])
def test_the_rate_at_a_mean_latency_is_the_one_of_pollaczek_and_khinchine_wherever_the_search_begins(guess):
    load = 0.6
    bound_ms = (SERVICE_S + mean_wait_md1_s(load / SERVICE_S, SERVICE_S)) * 1e3
    found = highest_rate(md1(bound_ms), guess, 1.0, 1000.0, tolerance=0.01)
    assert found.best.rate_per_s == pytest.approx(load / SERVICE_S, rel=0.03)
    assert found.failed.rate_per_s / found.best.rate_per_s <= 1.01


def test_every_point_is_kept_and_the_bracket_closes_around_the_limit():
    found = highest_rate(step(77.7), 10.0, 1.0, 1000.0, tolerance=0.02)
    assert found.best.rate_per_s <= 77.7 < found.failed.rate_per_s
    assert found.best in found.points and found.failed in found.points
    assert [one.valid for one in found.points] == [one.rate_per_s <= 77.7 for one in found.points]
    assert not found.reason


def test_near_a_good_guess_three_points_are_enough_and_far_from_it_steps_double():
    near = highest_rate(step(101.0), 100.0, 1.0, 1000.0, tolerance=0.05, step=1.05**2)
    assert len(near.points) == 3
    far = highest_rate(step(101.0), 10.0, 1.0, 1000.0, tolerance=0.05, step=1.05**2)
    rising = [one.rate_per_s for one in far.points[: far.points.index(far.failed) + 1] if one.rate_per_s <= 101.0]
    assert [b / a for a, b in itertools.pairwise(rising)][:3] == pytest.approx([1.05**2, 1.05**4, 1.05**8])
    assert far.best.rate_per_s <= 101.0 < far.failed.rate_per_s <= 1.05 * far.best.rate_per_s


def test_where_not_even_the_lowest_rate_meets_the_bound_there_is_no_rate_but_a_reason():
    found = highest_rate(step(0.5), 10.0, 1.0, 1000.0, tolerance=0.02)
    assert found.best is None
    assert found.reason == "1 requests/s already miss it: too fast"


def test_a_rate_beyond_what_may_be_tried_is_told_as_a_lower_limit():
    found = highest_rate(step(1e9), 10.0, 1.0, 50.0, tolerance=0.02)
    assert (found.best.rate_per_s, found.failed) == (50.0, None)
    assert "still meet it" in found.reason


def test_a_measurement_that_never_agrees_with_itself_ends_all_the_same():
    answers = itertools.cycle([True, False])
    found = highest_rate(lambda rate: Point(rate, rate, rate, 1.0, next(answers)), 10.0, 1.0, 50.0, 1e-9, most=12)
    assert len(found.points) == 12
    assert found.reason

"""A change is told only beyond what both measurements' own noise allows, for a whole family at once."""

from __future__ import annotations

import numpy as np
import pytest

from harness.stats.intervals import BlockSeries, change, joined


def series(mean, sd=0.01, blocks=40, seed=0, restarts=1):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(restarts), blocks // restarts)
    return BlockSeries(mean * np.exp(sd * rng.normal(size=labels.size)), labels, np.zeros(labels.size, dtype=np.intp))


def test_a_slowdown_is_found_and_the_same_speed_is_not():
    slower = change(series(100), series(90, seed=1), 0.95)
    same = change(series(100), series(100, seed=1), 0.95)
    assert slower.high < 0.95 and slower.low < 0.9 < slower.high
    assert same.low < 1 < same.high


def test_a_family_of_cells_has_wider_intervals_than_one():
    alone, one_of_many = (change(series(100), series(99, seed=1), 0.95, family) for family in (1, 50))
    assert one_of_many.low < alone.low and one_of_many.high > alone.high
    assert one_of_many.value == alone.value


def test_a_handful_of_blocks_tells_nothing():
    assert change(series(100, blocks=4), series(50), 0.95) is None


def test_repeated_measurements_are_restarts_whose_spread_widens_the_interval():
    quiet = joined([series(100, seed=seed) for seed in range(6)])
    moody = joined([series(100 * (1 + 0.2 * (seed % 2)), seed=seed) for seed in range(6)])
    assert set(quiet.restarts) == set(range(6)) and set(quiet.builds) == {0}
    narrow, wide = (change(one, one, 0.95) for one in (quiet, moody))
    assert np.log(wide.high) > 3 * np.log(narrow.high)


def test_false_alarms_of_a_family_stay_rare():
    alarms = 0
    for seed in range(100):
        ratios = [
            change(series(100, seed=seed * 8 + n), series(100, seed=9000 + seed * 8 + n), 0.95, 4) for n in range(4)
        ]
        alarms += any(one.high < 1 or one.low > 1 for one in ratios)
    assert alarms <= 10


@pytest.mark.parametrize("ratio", [0.5, 2.0])
def test_the_value_is_after_over_before(ratio):
    assert change(series(100, sd=0), series(100 * ratio, sd=0), 0.95).value == pytest.approx(ratio)


def test_five_blocks_are_enough_and_a_family_of_one_is_the_usual():
    assert change(series(100, blocks=5), series(100, blocks=5, seed=1), 0.95) is not None
    assert change(series(100), series(90), 0.95) == change(series(100), series(90), 0.95, 1)


def labelled(means, kind):
    """Return ten blocks for each of these means, which are restarts of one build or builds."""
    labels, none = np.repeat(np.arange(len(means)), 10), np.zeros(10 * len(means), dtype=np.intp)
    values = np.repeat(means, 10) * np.exp(0.001 * np.random.default_rng(3).normal(size=labels.size))
    return BlockSeries(values, labels, labels if kind == "builds" else none)


@pytest.mark.parametrize("kind", ["restarts", "builds"])
def test_which_blocks_share_a_restart_or_a_build_decides_how_wide_the_interval_is(kind):
    moody, steady = labelled([100, 110, 95, 104], kind), series(100, blocks=40)
    as_one = BlockSeries(moody.values, np.zeros(40, dtype=np.intp), np.zeros(40, dtype=np.intp))
    wide, narrow = (change(steady, run, 0.95) for run in (moody, as_one))
    assert np.log(wide.high / wide.low) != pytest.approx(np.log(narrow.high / narrow.low), rel=0.05)


def test_builds_of_one_measurement_are_no_builds_of_another():
    def built(seed):
        builds = np.repeat([0, 1], 5)
        return BlockSeries(series(100, blocks=10, seed=seed).values, builds, builds)

    found = joined([built(0), built(1)])
    assert found.builds.tolist() == np.repeat([0, 1, 2, 3], 5).tolist()
    assert found.restarts.tolist() == np.repeat([0, 1, 2, 3], 5).tolist()
    again = joined([series(100, blocks=5), built(2), series(100, blocks=5)])  # one build beside two
    assert again.builds.tolist() == np.repeat([0, 1, 2, 3], 5).tolist()

"""The interval of a rate at the bound: searches in fresh processes are replicates, those in one hardly."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from harness.results.load_analysis import rate_interval

RATES = [2393.0, 2047.0, 2072.0, 1976.0, 2227.0]


def test_searches_in_fresh_processes_give_the_t_interval_of_the_logarithms():
    logs = np.log(RATES)
    half = stats.t.ppf(0.975, 4) * logs.std(ddof=1) / np.sqrt(5)
    assert rate_interval(RATES, range(5)) == pytest.approx(np.exp([logs.mean() - half, logs.mean() + half]))


def test_as_many_searches_in_one_process_say_less():
    low, high = rate_interval(RATES, [0] * 5)
    apart_low, apart_high = rate_interval(RATES, range(5))
    assert low < apart_low < apart_high < high


def test_two_searches_have_no_interval():
    assert rate_interval(RATES[:2], [0, 1]) is None

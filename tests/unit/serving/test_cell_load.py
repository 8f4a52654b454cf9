"""What is known of a cell under load, from one set of processes to the next."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from harness.config import HarnessConfig, ScenarioConfig
from harness.serving.queueing import Found, Point
from harness.serving.requests import CellLoad, queries_needed
from harness.sweep.scenarios.under_load import Server

TIMED = CellLoad({32: (13.5,)}, 2370.0, 2100.0)


def test_batches_of_every_set_of_processes_are_kept_and_the_search_goes_on_where_it_was():
    first = CellLoad({32: (13.5, 13.4), 64: (20.0,)}, 2370.0, 2100.0, found_before=True)
    both = first.with_restart(CellLoad({32: (17.1,)}, 1870.0, 1500.0))
    assert both == CellLoad({32: (13.5, 13.4, 17.1), 64: (20.0,)}, 2370.0, 2100.0, found_before=True)


@pytest.mark.parametrize("later", [900.0, 2500.0])
def test_every_later_search_begins_where_the_first_ended(later):
    def ended(rate_per_s):
        best = Point(rate_per_s, rate_per_s, rate_per_s, 40.0, valid=True)
        return Found((best,), best, None)

    once = TIMED.after_search(ended(1800.0))
    assert once == replace(TIMED, guess_per_s=1800.0, found_before=True)
    assert once.after_search(ended(later)) == once


def test_a_search_that_found_nothing_leaves_the_guess_to_theory():
    assert TIMED.after_search(Found((), None, None)) == TIMED.after_search(None) == TIMED


def test_later_searches_begin_near_the_first_ones_end_each_at_a_rate_of_its_own():
    """All at the same rate, eight of them tried the same few, and an interval of half a percent was the grid's."""
    config = HarnessConfig(scenario=ScenarioConfig(name="server", tolerance=0.05))
    variant = SimpleNamespace(plan=None)
    load = replace(TIMED, guess_per_s=1800.0, found_before=True)
    guesses = [Server().request(variant, load, config, repeat)[1].guess_per_s for repeat in range(8)]
    assert len(set(guesses)) == 8 and 1.03 < max(guesses) / min(guesses) < 1.05
    assert all(abs(guess / 1800 - 1) < 0.026 for guess in guesses)
    assert Server().request(variant, load, config, 3)[1].guess_per_s == guesses[3]
    assert Server().request(variant, TIMED, config, 3)[1].guess_per_s == TIMED.guess_per_s


def test_a_test_is_long_enough_for_its_percentile_unless_told_otherwise():
    assert queries_needed(99, None) == 2 * 662
    assert queries_needed(99, 10) == 10

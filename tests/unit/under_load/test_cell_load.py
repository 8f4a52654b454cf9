"""What is known of a cell under load, from one set of processes to the next."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.scenarios.search import Found, Point
from harness.under_load.requests import CellLoad

TIMED = CellLoad({32: (13.5,)}, 2370.0, 2100.0)


def test_batches_of_every_set_of_processes_are_kept_and_the_search_goes_on_where_it_was():
    first = CellLoad({32: (13.5, 13.4), 64: (20.0,)}, 2370.0, 2100.0, found_before=True)
    both = first.with_another_set(CellLoad({32: (17.1,)}, 1870.0, 1500.0))
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

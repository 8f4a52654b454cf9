"""What is known of a cell under load, from one set of processes to the next."""

from __future__ import annotations

from harness.under_load.requests import CellLoad


def test_batches_of_every_set_of_processes_are_kept_and_the_search_goes_on_where_it_was():
    first = CellLoad({32: (13.5, 13.4), 64: (20.0,)}, 2370.0, 2100.0, found_before=True)
    both = first.with_another_set(CellLoad({32: (17.1,)}, 1870.0, 1500.0))
    assert both == CellLoad({32: (13.5, 13.4, 17.1), 64: (20.0,)}, 2370.0, 2100.0, found_before=True)

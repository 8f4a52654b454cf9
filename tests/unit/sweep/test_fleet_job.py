"""A job elsewhere asks whether its sweep still runs; a store that is away is no reason to measure nothing."""

from __future__ import annotations

import pytest

from harness.sweep.fleet import _ended
from harness.tracking import Store, finish, start_sweep


@pytest.mark.parametrize("status", ["KILLED", "FAILED", "FINISHED"])
def test_a_sweep_that_has_ended_wants_no_more_rows(status, store):
    sweep = start_sweep(store, "s", {}, {})
    assert not _ended(store, sweep)
    finish(store, sweep, status, "" if status == "FINISHED" else "interrupted")
    assert _ended(store, sweep)


def test_of_a_store_that_is_away_nobody_knows_and_the_quartet_is_measured():
    away = Store("http://127.0.0.1:1", "0", "harness", None)
    assert not _ended(away, "0" * 32)

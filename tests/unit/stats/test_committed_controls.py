"""On identical cells that were measured, not simulated, no window is decided falsely and most are decided."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "experiments" / "calibration"))  # scripts are no package

from controls import STUDIES, as_table, controls, windows


@pytest.fixture(scope="module")
def committed():
    return controls()


def test_no_window_of_the_committed_controls_is_decided_falsely_and_most_are_independent(committed):
    found = [row for control in committed for row in windows(control, (15, 40, 80))]
    assert {row.control.study for row in found} == set(STUDIES)
    assert sum(row.count for row in found) > 350
    assert [(row.control.engine, row.blocks, row.verdicts) for row in found if row.false] == []
    for row in found:  # by the plain interval and by the protocol's rule for who stops at a verdict
        assert row.verdicts["independent"] > 0.9 * row.count and row.deciding["independent"] > 0.8 * row.count
    assert len(as_table(found)) == len(found) + 2


def test_cells_that_are_not_identical_would_be_found(committed):
    smallest = min(committed, key=lambda control: len(control.throughput))
    (row,) = windows(replace(smallest, throughput=smallest.throughput * [1, 1, 1, 1.1]), (15,))
    assert row.false > 0

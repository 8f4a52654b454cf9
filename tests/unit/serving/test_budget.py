"""How many restarts fit a budget: the clock decides, and nothing that was measured."""

from __future__ import annotations

import pytest

from harness.serving.measure import restarts_within, shortened


def measured(budget_s: float | None, restarts: int, seconds: list[float]) -> int:
    """Return how many sets were begun, where each takes what `seconds` says."""
    clock = [100.0]
    for restart in restarts_within(budget_s, restarts, lambda: sum(clock)):
        clock.append(seconds[restart])
    return len(clock) - 1


@pytest.mark.parametrize(
    ("budget_s", "expected"),
    [
        (None, 4),
        (40.0, 4),
        (39.9, 3),
        (25.0, 2),
        (1.0, 1),  # one there must be
    ],
)
def test_no_set_is_begun_that_would_not_be_over_in_time(budget_s, expected):
    assert measured(budget_s, 4, [10.0] * 4) == expected


def test_a_set_is_expected_to_take_as_long_as_the_longest_before():
    assert measured(35.0, 4, [20.0, 5.0, 5.0, 5.0]) == 1
    assert measured(45.0, 4, [20.0, 5.0, 5.0, 5.0]) == 3


def test_a_reader_is_told_what_was_left_out():
    assert shortened(5, 8, 500.0) == "5 of 8 restarts: scenario.budget_s=500"
    assert shortened(8, 8, 500.0) == shortened(8, 8, None) == ""

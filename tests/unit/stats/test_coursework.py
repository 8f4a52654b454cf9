"""The usual recipe decides by a point estimate, always."""

from __future__ import annotations

import math

import pytest

from harness.stats import coursework_factor, coursework_verdict


@pytest.mark.parametrize(
    ("combined", "expected"),
    [(631, "amplify"), (629, "independent"), (600, "independent"), (571, "independent"), (569, "conflict")],
)
def test_the_thresholds_are_five_percent_either_side(combined: float, expected: str) -> None:
    assert coursework_verdict([100, 200, 300, combined]) == expected


def test_the_factor_is_the_ratio_of_gains() -> None:
    assert coursework_factor([100, 200, 300, 300]) == pytest.approx(0.5)


@pytest.mark.parametrize("means", [[1, 1, 1], [1, 1, 1, 0], [1, 1, math.nan, 1], [[1, 1, 1, 1]]])
def test_four_positive_numbers_or_nothing(means: list[float]) -> None:
    with pytest.raises(ValueError):
        coursework_verdict(means)


@pytest.mark.parametrize(("combined", "said"), [(1.05, "independent"), (0.95, "independent")])
def test_at_a_threshold_itself_it_is_independent(combined: float, said: str) -> None:
    assert coursework_verdict([1.0, 1.0, 1.0, combined]) == said


def test_slow_networks_and_whole_numbers_have_a_factor_too() -> None:
    assert coursework_factor([0.2, 0.4, 0.4, 0.8]) == pytest.approx(1)
    assert coursework_factor(["1", "2", "2", "4"]) == pytest.approx(1)  # as a table of texts has them


def test_what_is_wrong_with_the_means_is_said() -> None:
    with pytest.raises(ValueError, match=r"got shape \(3,\)"):
        coursework_factor([1, 2, 3])
    with pytest.raises(ValueError, match=r"finite and positive, got \[1.0, 2.0, 3.0, 0.0\]"):
        coursework_factor([1, 2, 3, 0])

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

"""The verdict at and around its boundaries."""

from __future__ import annotations

import json
import math

import pytest

from harness.stats import Verdict, is_decided, verdict
from harness.stats.verdict import distance_to_margin


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (1.0500001, 1.2, "amplify"),
        (1.05, 1.2, "inconclusive"),  # the margin itself still belongs to a product
        (0.8, 0.9499999, "conflict"),
        (0.8, 0.95, "inconclusive"),
        (0.95, 1.05, "independent"),
        (0.9499999, 1.05, "inconclusive"),
        (0.95, 1.0500001, "inconclusive"),
        (1.0, 1.0, "independent"),
        (0.0, math.inf, "inconclusive"),
    ],
)
def test_boundaries(low: float, high: float, expected: str) -> None:
    assert verdict(low, high) == expected


def test_the_margin_is_the_callers() -> None:
    assert verdict(0.91, 1.09) == "inconclusive"
    assert verdict(0.91, 1.09, margin=0.1) == "independent"
    assert verdict(1.06, 1.09, margin=0.1) == "independent"


@pytest.mark.parametrize(("low", "high"), [(1.2, 1.1), (math.nan, 1.0), (1.0, math.nan)])
def test_no_verdict_on_a_broken_interval(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="low <= high"):
        verdict(low, high)


def test_only_inconclusive_is_undecided() -> None:
    assert [name for name in Verdict if not is_decided(name)] == ["inconclusive"]
    with pytest.raises(ValueError):
        is_decided("maybe")


def test_a_verdict_is_its_string_in_a_tag_or_in_json() -> None:
    assert f"{Verdict.AMPLIFY}" == "amplify"
    assert json.dumps({"verdict": Verdict.CONFLICT}) == '{"verdict": "conflict"}'


def test_the_distance_is_to_the_nearer_bound() -> None:
    assert distance_to_margin(0.0, 0.05) == pytest.approx(math.log(1.05))
    assert distance_to_margin(math.log(0.9), 0.05) == pytest.approx(math.log(0.95 / 0.9))
    assert distance_to_margin(math.log(1.05), 0.05) == pytest.approx(0, abs=1e-12)

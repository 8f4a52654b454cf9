"""The rate within a bound: the measured one at the study's own, between measured points at another, else none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.commands.capacity.curves import CurveCell, CurvePoint, sustained
from harness.serving.policy import BatchPolicy
from harness.system.errors import UserError


def cell(*points, at=100.0):
    measured = tuple(CurvePoint(rate, rate, latency, valid, "") for rate, latency, valid in points)
    return CurveCell("hw", at, at * 0.9, at * 1.2, measured, {1: (1.0,)}, BatchPolicy(1))


RISING = cell((50, 10.0, True), (80, 20.0, True), (100, 40.0, True), (120, 90.0, False))


def test_the_studys_own_bound_gives_exactly_what_was_measured():
    found = sustained(RISING, 50, 50)
    assert (found.rate_per_s, found.low_per_s, found.high_per_s) == (100, 90, 120)
    assert not found.interpolated


def test_another_bound_lies_between_its_two_measured_neighbours_and_keeps_the_relative_interval():
    found = sustained(RISING, 50, 30)
    assert found.rate_per_s == pytest.approx(90)
    assert (found.low_per_s, found.high_per_s) == (pytest.approx(81), pytest.approx(108))
    assert found.interpolated
    assert sustained(RISING, 50, 40).rate_per_s == 100


@pytest.mark.parametrize("slo_ms", [9.9, 41, 90])
def test_a_bound_outside_the_valid_points_is_refused_with_their_range(slo_ms):
    with pytest.raises(UserError, match=r"cover 10 to 40 ms.*scenario\.slo_ms="):
        sustained(RISING, 50, slo_ms)


def test_latencies_that_fall_by_noise_and_repeats_of_a_rate_still_give_one_answer():
    noisy = cell((50, 12.0, True), (60, 8.0, True), (80, 20.0, True), (80, 30.0, True), (80, 25.0, True))
    assert sustained(noisy, 50, 17.5).rate_per_s == pytest.approx(70)  # between (60, 10) and (80, 25)


def test_a_cell_that_never_met_its_bound_and_one_without_valid_points_are_refused():
    with pytest.raises(UserError, match="no rate within its bound of 50 ms was found"):
        sustained(replace(RISING, at_slo_per_s=0), 50, 50)
    with pytest.raises(UserError, match="no valid point"):
        sustained(cell((120, 90.0, False)), 50, 40)

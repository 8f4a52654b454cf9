"""The plan's arithmetic: enough GPUs and not one more, and costs that add up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.commands.capacity.curves import SustainedRate
from harness.commands.capacity.plan import Demand, Hour, constant, gpus_needed, plan_fleet

RATE = SustainedRate("hw", 50, 100.0, 80.0, 125.0, interpolated=False)


@given(
    st.floats(1e-3, 1e8), st.floats(0.1, 1e5), st.floats(0, 0.9)
)  # fmt: skip
def test_the_fleet_is_the_smallest_that_keeps_its_headroom(demand, rate, headroom):
    gpus = gpus_needed(demand, rate, headroom)
    usable = rate * (1 - headroom)
    assert gpus * usable >= demand * (1 - 1e-9)
    assert (gpus - 1) * usable < demand


def test_whole_numbers_are_not_rounded_up_by_floating_point():
    assert gpus_needed(800, 100, 0.2) == 10
    assert gpus_needed(800.1, 100, 0.2) == 11
    assert gpus_needed(0, 100, 0.2) == 0


def test_a_constant_demand_costs_the_same_fixed_and_autoscaled():
    plan = plan_fleet(constant(1000), RATE, 0.2, 2.5)
    assert plan.gpus == 13
    assert (plan.gpus_low, plan.gpus_high) == (10, 16)
    assert plan.utilisation_mean == plan.utilisation_peak == pytest.approx(1000 / 1300)
    assert plan.cost.per_hour == pytest.approx(32.5)
    assert plan.cost.per_million_images == pytest.approx(32.5 / 3.6)
    assert plan.autoscaled_cost == plan.cost


def test_a_day_pays_for_its_peak_unless_the_fleet_follows_it():
    day = Demand("day", (*[Hour(3600, 0, 0)] * 6, *[Hour(3600, 500, 500)] * 12, *[Hour(3600, 900, 1000)] * 6))
    plan = plan_fleet(day, RATE, 0, 2)
    assert plan.gpus == 10
    assert plan.gpus_by_hour == (0,) * 6 + (5,) * 12 + (10,) * 6
    assert plan.autoscaled_gpus_mean == pytest.approx(5)
    assert plan.utilisation_peak == 1
    assert plan.utilisation_mean == pytest.approx(0.475)
    bill = 24 * 10 * 2
    assert plan.cost.per_million_images == pytest.approx(bill / day.images * 1e6)
    assert plan.autoscaled_cost.per_million_images == pytest.approx(bill / 2 / day.images * 1e6)


def test_without_a_price_there_is_no_cost_and_without_an_interval_no_range():
    plan = plan_fleet(constant(1000), SustainedRate("hw", 50, 100.0, None, None, interpolated=False), 0, None)
    assert (plan.cost, plan.autoscaled_cost, plan.gpus_low, plan.gpus_high) == (None, None, None, None)

"""Plan and simulation agree where batch times explain the curve, and say so where they don't."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from harness.commands.capacity import fleet_check as checking
from harness.commands.capacity.answer import Question, answer
from harness.commands.capacity.curves import parse
from harness.commands.capacity.fleet_check import TOLERANCE, check_plan, rate_of
from harness.commands.capacity.plan import constant
from harness.commands.capacity.table import notes
from harness.serving.queueing import Point


@pytest.fixture(autouse=True)
def _fewer_requests(request, monkeypatch):
    """A fifth of the requests that a user's check has, for every part of a fleet: what is asserted is the same."""
    if not request.node.get_closest_marker("minutes"):
        monkeypatch.setattr(checking, "REQUESTS", checking.REQUESTS // 5)


@pytest.mark.minutes  # the requests that a user's check has
@pytest.mark.parametrize("cell", ["baseline", "arch", "hw", "combined"])
def test_a_check_of_full_length_agrees_as_well(curves, cell):
    test_plan_and_simulation_agree_within_5_percent_on_the_curve_of_an_independent_server(curves, cell)


@pytest.mark.parametrize("cell", ["baseline", "arch", "hw", "combined"])
def test_plan_and_simulation_agree_within_5_percent_on_the_curve_of_an_independent_server(curves, cell):
    found = answer([curves], Question(constant(1e6), candidate=cell))
    plan = found.plans[-1]
    check = check_plan(curves, plan, constant(1e6))
    assert check.agrees, check
    assert abs(check.gpus / plan.gpus - 1) < 0.05
    assert check.meets_bound
    assert check.latency_ms < 50


def test_a_curve_that_its_batch_times_do_not_explain_is_a_disagreement(serving):
    cell = serving["cells"]["hw"]
    cell["service_ms"] = {size: [1.25 * one for one in samples] for size, samples in cell["service_ms"].items()}
    curves = parse(json.dumps(serving), "slower")
    found = answer([curves], Question(constant(1e6), candidate="hw", headroom=0))
    check = check_plan(curves, found.plans[-1], constant(1e6))
    assert not check.agrees
    assert -0.3 < check.difference < -0.15
    assert check.gpus > found.plans[-1].gpus
    assert not check.meets_bound


def test_of_a_trace_with_very_many_arrivals_fewer_gpus_are_simulated(curves, monkeypatch):
    """7 million arrivals of one minute took 45 seconds; GPUs that know nothing of each other tell the same."""
    demand = replace(constant(1e6), busiest_s=np.sort(np.random.default_rng(0).uniform(0, 0.1, 100_000)))
    plan = answer([curves], Question(demand)).plans[-1]
    all_eight = check_plan(curves, plan, demand)
    monkeypatch.setattr(checking, "MOST", 4 * demand.busiest_s.size // plan.gpus)
    check = check_plan(curves, plan, demand)
    assert (all_eight.gpus_simulated, check.gpus_simulated) == (8, 3)  # 4, rounded down
    assert check.busy_share == pytest.approx(all_eight.busy_share, rel=0.1)
    assert check_plan(curves, plan, demand, split="shortest_queue").gpus_simulated == 8


def test_no_rate_above_what_full_batches_come_to_is_called_sustained(serving):
    """A fast GPU took 10,000 requests in 0.6 s: too little time for an overload of 6% to reach a bound of 50 ms."""
    cell = serving["cells"]["hw"]
    cell["service_ms"] = {str(size): [0.9 + 0.05 * size] for size in (2, 4, 8, 16, 32, 64)}
    most_per_s = 64 / 4.1e-3
    cell |= {"at_slo_per_s": 0.99 * most_per_s, "low_per_s": None, "high_per_s": None}
    cell["policy"] |= {"max_batch_size": 64, "static": False, "buckets": [2, 4, 8, 16, 32, 64]}
    curves = parse(json.dumps(serving), "fast")
    found = answer([curves], Question(constant(1e6), candidate="hw"))
    check = check_plan(curves, found.plans[-1], constant(1e6))
    assert 0.95 * most_per_s < check.rate_per_s < 1.02 * most_per_s


def test_a_run_that_is_too_short_for_a_small_overload_says_so(curves):
    found = answer([curves], Question(constant(1e6), candidate="hw"))
    plan = found.plans[-1]
    short = check_plan(curves, plan, constant(1e6), requests=2000)
    per_s = plan.sustained.rate_per_s
    assert short.overlooked == pytest.approx(0.05 * per_s * short.gpus_simulated / 2000)  # the bound is 50 ms
    said = [line for line in notes(replace(found, checks=(short,), plans=(plan,))) if "too short" in line]
    assert said == [f"hw: the simulation is too short to show an overload below {short.overlooked:.1%}"]
    assert not [line for line in notes(found) if "too short" in line]


def test_a_bound_below_every_batch_time_is_met_by_no_rate(serving):
    serving["cells"]["hw"]["service_ms"] = {"32": [60.0]}
    curves = parse(json.dumps(serving), "hopeless")
    found = answer([curves], Question(constant(100), candidate="hw"))
    check = check_plan(curves, found.plans[-1], constant(100), requests=2000)
    assert (check.rate_per_s, check.gpus, check.difference) == (0, None, -1)


def met_where(meets):
    return lambda rate: Point(rate, rate, rate, 0.0, meets(rate))


@pytest.mark.parametrize("true", [1.0, 7.0, 99.0, 100.0, 101.0, 900.0])
def test_the_bisection_finds_the_highest_rate_from_either_side(true):
    assert rate_of(met_where(lambda rate: rate <= true), 100, 1.04) == pytest.approx(true, rel=TOLERANCE)


def test_the_bisection_ends_where_nothing_or_everything_meets_the_bound():
    assert rate_of(met_where(lambda _: False), 100, 1.04) == 0
    assert math.isfinite(rate_of(met_where(lambda _: True), 100, 1.04))

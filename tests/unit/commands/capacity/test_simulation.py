"""The simulated fleet against what is known of queues, and a part of a fleet against the whole."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harness.commands.capacity.curves import CurveCell, Policy
from harness.commands.capacity.simulated_arrivals import FleetPart, poisson_arrivals_s, thinned_s
from harness.commands.capacity.simulation import batch_times_ms, simulate

SERVICE_MS = 10.0


def cell(size=1, delay_us=0.0, static=False, **service_ms):
    service = {int(name[1:]): samples for name, samples in service_ms.items()} or {1: (SERVICE_MS,)}
    return CurveCell("hw", 1, None, None, (), service, Policy(size, delay_us, static))


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_the_mean_wait_is_that_of_an_m_d_1_queue(load):
    arrivals_s = poisson_arrivals_s(load * 1000 / SERVICE_MS, 150_000, seed=3)
    run = simulate(cell(), arrivals_s, 1, "random", seed=3)
    assert run.wait_ms.mean() == pytest.approx(load * SERVICE_MS / (2 * (1 - load)), rel=0.05)
    assert run.busy_share == pytest.approx(load, rel=0.01)
    assert np.allclose(run.latency_ms, run.wait_ms + SERVICE_MS)


def test_a_lone_request_waits_for_company_no_longer_than_the_delay():
    run = simulate(cell(8, 2000, _1=(3.0,), _8=(5.0,)), np.array([0.0, 1.0]), 1, "random", 0)
    assert list(run.latency_ms) == pytest.approx([5.0, 5.0])
    assert run.mean_batch_size == 1


def test_a_full_batch_leaves_at_once_and_the_next_one_when_the_gpu_is_free():
    run = simulate(cell(2, 50_000, _1=(3.0,), _2=(4.0,)), np.array([0, 0.001, 0.002, 0.003]), 1, "random", 0)
    assert list(run.latency_ms) == pytest.approx([5.0, 4.0, 7.0, 6.0])


def test_a_request_that_waited_behind_a_batch_has_used_up_its_delay():
    run = simulate(cell(2, 1000, _1=(10.0,), _2=(10.0,)), np.array([0, 0.002]), 1, "random", 0)
    assert list(run.latency_ms) == pytest.approx([11.0, 19.0])


def test_a_preferred_size_waits_for_no_more_and_what_is_above_it_stays():
    preferring = replace(cell(8, 50_000, _1=(3.0,), _8=(5.0,)), policy=Policy(8, 50_000, False, (2,)))
    run = simulate(preferring, np.array([0, 0.001, 0.002, 0.003, 0.004]), 1, "random", 0)
    assert list(run.latency_ms) == pytest.approx([6.0, 5.0, 9.0, 8.0, 53.0])


def test_a_static_batch_takes_its_full_time_whoever_is_in_it():
    assert batch_times_ms(cell(4, 0, True, _1=(1.0,), _4=(9.0,))) == [(9.0,)] * 4


def test_a_dynamic_batch_runs_at_the_smallest_measured_size_that_holds_it_and_none_is_larger():
    assert batch_times_ms(cell(8, 0, False, _1=(1.0,), _4=(9.0,))) == [(1.0,), (9.0,), (9.0,), (9.0,)]


def test_the_batch_times_drawn_are_the_measured_ones():
    run = simulate(cell(1, 0, False, _1=(1.0, 2.0, 4.0)), np.arange(3000) / 10, 1, "random", 0)
    sizes, counts = np.unique(run.latency_ms.round(6), return_counts=True)
    assert list(sizes) == [1, 2, 4]
    assert (abs(counts - 1000) < 120).all()


def test_the_same_seed_gives_the_same_run_and_another_one_another():
    arrivals_s = poisson_arrivals_s(50, 2000, 1)
    runs = [simulate(cell(1, 0, False, _1=(5.0, 9.0)), arrivals_s, 2, "random", seed) for seed in (1, 1, 2)]
    assert (runs[0].latency_ms == runs[1].latency_ms).all()
    assert (runs[0].latency_ms != runs[2].latency_ms).any()


@pytest.mark.parametrize("split", ["random", "round_robin"])
def test_a_few_gpus_wait_as_long_as_those_of_the_whole_fleet(split):
    rate_per_s, fleet = 80.0, 24
    whole_s = poisson_arrivals_s(rate_per_s * fleet, 120_000, 1)
    whole = simulate(cell(), whole_s, fleet, split, 1)
    part = FleetPart(simulated=4, fleet=fleet, split=split)
    few = simulate(cell(), poisson_arrivals_s(rate_per_s, 60_000, 2, part), 4, split, 2)
    thinned = simulate(cell(), thinned_s(whole_s, 3, part), 4, split, 3)
    for other in (few, thinned):
        assert other.busy_share == pytest.approx(whole.busy_share, rel=0.03)
        assert other.wait_ms.mean() == pytest.approx(whole.wait_ms.mean(), rel=0.15)


def test_an_even_split_waits_less_than_a_random_one():
    random, round_robin, shortest_queue = (
        simulate(cell(), poisson_arrivals_s(320, 30_000, 1), 4, split, 1).wait_ms.mean()
        for split in ("random", "round_robin", "shortest_queue")
    )
    assert round_robin < random / 2
    assert shortest_queue < random / 2

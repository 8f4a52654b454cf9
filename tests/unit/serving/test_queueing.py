"""The simulated queues agree with theory where there is one, and with common sense elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

from called import mean_wait_md1_s
from harness.serving.policy import BatchPolicy
from harness.serving.queueing import batch_times, predicted_rate, simulate

ONE = BatchPolicy(1, static=True)
SERVICE_S = 0.01


def poisson(rate_per_s: float, count: int = 100_000) -> np.ndarray:
    return np.cumsum(np.random.default_rng(5).exponential(1 / rate_per_s, count))


def latencies_ms(arrivals_s, policy, **service_ms):
    """Return the latencies of one server, ms; _4=(9.0,) is what a batch of four takes."""
    service_s = {int(name[1:]): [ms / 1e3 for ms in times] for name, times in service_ms.items()}
    return list(simulate(arrivals_s, service_s, policy).latency_s * 1e3)


@pytest.mark.parametrize("load", [0.2, 0.5, 0.8])
def test_one_request_at_a_time_waits_as_pollaczek_and_khinchine_say(load):
    run = simulate(poisson(load / SERVICE_S), {1: [SERVICE_S]}, ONE)
    assert run.wait_s.mean() == pytest.approx(mean_wait_md1_s(load / SERVICE_S, SERVICE_S), rel=0.05)
    assert run.busy_share == pytest.approx(load, rel=0.01)
    assert np.allclose(run.latency_s, run.wait_s + SERVICE_S)


def test_a_part_of_a_fleet_that_no_request_reaches_is_idle():
    run = simulate([], {1: [0.001]}, BatchPolicy(1, 0), servers=2)
    assert (run.busy_share, run.mean_batch_size, run.latency_s.size) == (0, 0, 0)


def test_a_lone_request_waits_for_company_no_longer_than_the_delay():
    policy = BatchPolicy(8, max_queue_delay_us=2000)
    assert latencies_ms([0.0, 1.0], policy, _1=(3.0,), _8=(5.0,)) == pytest.approx([5.0, 5.0])


def test_requests_that_come_together_share_a_batch():
    policy = BatchPolicy(4, max_queue_delay_us=2000)
    found = latencies_ms([0.0, 0.001, 0.0015, 0.0016], policy, _1=(10.0,), _4=(20.0,))
    assert found == pytest.approx([21.6, 20.6, 20.1, 20.0])  # the fourth completes the batch


def test_a_full_batch_leaves_at_once_and_the_next_one_when_the_server_is_free():
    policy = BatchPolicy(2, max_queue_delay_us=50_000)
    found = latencies_ms([0, 0.001, 0.002, 0.003], policy, _1=(3.0,), _2=(4.0,))
    assert found == pytest.approx([5.0, 4.0, 7.0, 6.0])


def test_a_request_that_waited_behind_a_batch_has_used_up_its_delay():
    policy = BatchPolicy(2, max_queue_delay_us=1000)
    assert latencies_ms([0, 0.002], policy, _1=(10.0,), _2=(10.0,)) == pytest.approx([11.0, 19.0])


def test_a_preferred_size_waits_for_no_more_and_what_is_above_it_stays():
    policy = BatchPolicy(8, max_queue_delay_us=50_000, preferred_batch_sizes=(2,))
    found = latencies_ms([0, 0.001, 0.002, 0.003, 0.004], policy, _1=(3.0,), _8=(5.0,))
    assert found == pytest.approx([6.0, 5.0, 9.0, 8.0, 53.0])


def test_a_static_batch_takes_its_full_time_whoever_is_in_it():
    assert batch_times({1: (1.0,), 4: (9.0,)}, BatchPolicy(4, static=True)) == [(9.0,)] * 4


def test_a_dynamic_batch_runs_at_the_smallest_measured_size_that_holds_it():
    assert batch_times({1: (1.0,), 4: (9.0,)}, BatchPolicy(4)) == [(1.0,), (9.0,), (9.0,), (9.0,)]


def test_no_batch_is_larger_than_the_largest_that_was_measured():
    run = simulate(np.zeros(8), {1: (1.0,), 4: (9.0,)}, BatchPolicy(8))
    assert run.mean_batch_size == 4


def test_the_batch_times_drawn_are_the_measured_ones():
    sizes, counts = np.unique(
        np.round(latencies_ms(np.arange(3000) / 10, ONE, _1=(1.0, 2.0, 4.0)), 6), return_counts=True
    )
    assert list(sizes) == [1, 2, 4]
    assert (abs(counts - 1000) < 120).all()


def test_the_same_seed_gives_the_same_run_and_another_one_another():
    runs = [simulate(poisson(50, 2000), {1: (0.005, 0.009)}, ONE, 2, "random", seed) for seed in (1, 1, 2)]
    assert (runs[0].latency_s == runs[1].latency_s).all()
    assert (runs[0].latency_s != runs[2].latency_s).any()


def test_an_even_split_waits_less_than_a_random_one():
    random, round_robin, shortest_queue = (
        simulate(poisson(320, 30_000), {1: [SERVICE_S]}, ONE, 4, split, 1).wait_s.mean()
        for split in ("random", "round_robin", "shortest_queue")
    )
    assert round_robin < random / 2
    assert shortest_queue < random / 2


def test_batching_carries_a_rate_that_one_at_a_time_can_not():
    service_s = {1: 0.010, 8: 0.020}
    alone = predicted_rate({1: 0.010}, ONE, slo_s=0.05, q=0.99)
    together = predicted_rate(service_s, BatchPolicy(8, static=True), slo_s=0.05, q=0.99)
    assert 50 < alone < 70  # the 99th percentile of waiting four services is met at a load of about 0.58
    assert together > 3 * alone


def test_a_batch_slower_than_the_bound_serves_no_rate():
    assert predicted_rate({8: 0.06}, BatchPolicy(8, static=True), slo_s=0.05, q=0.99) == 0.0

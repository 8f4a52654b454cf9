"""The simulated queue agrees with theory where there is one, and with common sense elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

from harness.serving.policy import BatchPolicy
from harness.serving.queueing import latencies, mean_wait_md1_s, predicted_rate

ONE = BatchPolicy(1, static=True)


def poisson(rate_per_s: float, count: int = 100_000) -> np.ndarray:
    return np.cumsum(np.random.default_rng(5).exponential(1 / rate_per_s, count))


@pytest.mark.parametrize("load", [0.2, 0.5, 0.8])
def test_one_request_at_a_time_waits_as_pollaczek_and_khinchine_say(load):
    service_s = 0.01
    waits = latencies(poisson(load / service_s), {1: service_s}, ONE) - service_s
    assert waits.mean() == pytest.approx(mean_wait_md1_s(load / service_s, service_s), rel=0.05)


def test_a_lone_request_waits_for_the_delay_and_then_for_its_batch():
    policy = BatchPolicy(4, max_queue_delay_us=2000)
    assert latencies([0.0, 1.0], {1: 0.01, 4: 0.02}, policy) == pytest.approx([0.012, 0.012])


def test_requests_that_come_together_share_a_batch():
    policy = BatchPolicy(4, max_queue_delay_us=2000)
    found = latencies([0.0, 0.001, 0.0015, 0.0016], {1: 0.01, 4: 0.02}, policy)
    assert found == pytest.approx([0.0216, 0.0206, 0.0201, 0.02])  # the fourth completes the batch


def test_batching_carries_a_rate_that_one_at_a_time_can_not():
    service_s = {1: 0.010, 8: 0.020}
    alone = predicted_rate({1: 0.010}, ONE, slo_s=0.05, q=0.99)
    together = predicted_rate(service_s, BatchPolicy(8, static=True), slo_s=0.05, q=0.99)
    assert 50 < alone < 70  # the 99th percentile of waiting four services is met at a load of about 0.58
    assert together > 3 * alone


def test_a_batch_slower_than_the_bound_serves_no_rate():
    assert predicted_rate({8: 0.06}, BatchPolicy(8, static=True), slo_s=0.05, q=0.99) == 0.0


def test_theory_has_no_answer_for_an_overload():
    with pytest.raises(ValueError, match=r"load in \[0, 1\)"):
        mean_wait_md1_s(101, 0.01)

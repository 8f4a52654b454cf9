"""LoadGen against servers of known speed: its verdict is kept, our record agrees, theory holds at low load."""

from __future__ import annotations

import numpy as np
import pytest

from called import mean_wait_md1_s
from harness.serving.client import LoadTest
from harness.serving.loadgen import run_test
from harness.serving.policy import BatchPolicy
from harness.serving.queueing import simulate
from harness.serving.work import Work
from harness.system.errors import CellError
from harness.techniques.arch.stages import ONE_STAGE

pytestmark = pytest.mark.slow

SERVICE_S = 0.005
SLOW_S = 0.015  # next to it, what a busy machine adds is little
SHORT = {"percentile": 90.0, "slo_ms": 100.0, "min_duration_s": 1.0, "max_duration_s": 3.0, "min_queries": 64}


def work_of(engine, numbers, policy) -> Work:
    return Work((engine,), (policy,), ONE_STAGE, {"input": numbers})


@pytest.fixture(scope="module")
def low_load(sleeping, numbers):
    """Return a valid server test of one request at a time at a load of about one half."""
    work = work_of(sleeping(SLOW_S, 1), numbers, BatchPolicy(1, static=True))
    settings = {**SHORT, "slo_ms": 1000.0, "min_duration_s": 6.0, "max_duration_s": 12.0}
    return run_test(LoadTest("server", 0.5 / SLOW_S, **settings, seed=3), work), work


def test_a_server_that_keeps_up_is_valid_and_says_so_in_loadgens_words(low_load):
    result, _ = low_load
    assert (result.valid, result.reason) == (True, "")
    assert "Result is : VALID" in result.summary
    assert "schedule_rng_seed : 3" in result.summary
    assert result.record.shed == 0


def test_at_low_load_requests_wait_as_in_an_m_d_1_queue(low_load, sleeping, numbers):
    """Against theory loosely, for a few hundred arrivals are a small draw; against a simulated queue with just these
    arrivals closely. A machine that others keep busy serves in no steady time: then the test is run once more."""
    for attempt in range(4):
        result, work = low_load if attempt == 0 else run_again(low_load[0], sleeping, numbers)
        service_s = float(np.mean([run.completed_s - run.started_s for run in work.runs]))
        wait_s = float((result.record.started_s - result.record.issued_s).mean())
        assert result.figures.queue_ms == pytest.approx(wait_s * 1e3)
        simulated_s = simulate(result.record.issued_s, {1: [service_s]}, BatchPolicy(1, static=True)).wait_s.mean()
        pairs = (
            (wait_s, pytest.approx(simulated_s, rel=0.4)),
            (wait_s, pytest.approx(mean_wait_md1_s(result.arrived_per_s, service_s), rel=0.8)),
            (result.figures.utilisation, pytest.approx(result.arrived_per_s * service_s, rel=0.2)),
        )
        if all(found == wanted for found, wanted in pairs):
            return
    pytest.fail(f"four times in a row not as a queue should be, last: {pairs}")


def run_again(result, sleeping, numbers):
    work = work_of(sleeping(SLOW_S, 1), numbers, BatchPolicy(1, static=True))
    return run_test(result.test, work), work


def test_our_record_agrees_with_loadgens(low_load):
    result, _ = low_load
    record = result.record
    assert result.mean_latency_ms == pytest.approx(record.latency_s.mean() * 1e3 + result.lag_ms)
    assert (record.queued_s - record.issued_s).max() < 1
    assert (record.started_s[1:] >= record.completed_s[:-1]).all()  # one at a time
    ordered = (record.issued_s <= record.queued_s) & (record.queued_s <= record.started_s)
    assert (ordered & (record.started_s < record.completed_s)).all()
    assert (np.diff(record.issued_s) >= 0).all()


def test_the_same_seed_draws_the_same_arrivals(sleeping, numbers):
    test = LoadTest("server", 100.0, **SHORT, seed=3)
    first, again = (
        run_test(test, work_of(sleeping(service_s, 1), numbers, BatchPolicy(1, static=True)))
        for service_s in (0.004, 0.001)
    )
    assert len(again.record.issued_s) == len(first.record.issued_s)
    assert again.arrived_per_s == pytest.approx(first.arrived_per_s, rel=1e-6)


def test_an_overload_is_a_result_with_its_reason(sleeping, numbers):
    work = work_of(sleeping(0.02, 1), numbers, BatchPolicy(1, static=True))
    result = run_test(LoadTest("server", 100.0, **SHORT), work)
    assert not result.valid
    assert "bound is 100 ms" in result.reason or "overloaded" in result.reason
    assert "Result is : INVALID" in result.summary


def test_a_queue_that_only_grows_is_shed_and_can_not_pass_for_fast(sleeping, numbers):
    work = work_of(sleeping(0.5, 1), numbers, BatchPolicy(1, static=True))
    result = run_test(
        LoadTest("server", 200.0, **{**SHORT, "max_duration_s": 6.0, "min_queries": 400}, give_up_s=1.0), work
    )
    assert not result.valid
    assert result.record.shed > 0
    assert result.reason.startswith(f"overloaded: {result.record.shed} requests shed")
    assert result.latency_ms == np.inf


def test_too_short_a_test_says_that_it_was_too_short(sleeping, numbers):
    work = work_of(sleeping(0.001, 1), numbers, BatchPolicy(1, static=True))
    result = run_test(LoadTest("server", 10.0, **{**SHORT, "max_duration_s": 1.5, "min_duration_s": 1.0}), work)
    assert not result.valid
    assert "fewer than 64 requests within max_duration_s=1.5" in result.reason


def test_a_batcher_serves_a_rate_that_one_at_a_time_can_not(sleeping, numbers):
    def at_three_times_what_one_can(policy):
        work = work_of(sleeping(0.02, 8), numbers, policy)
        return run_test(LoadTest("server", 3 / 0.02, **{**SHORT, "slo_ms": 800.0, "min_duration_s": 2.0}), work)

    result = at_three_times_what_one_can(BatchPolicy(8, max_queue_delay_us=2000))
    assert result.valid, result.reason
    assert result.figures.mean_batch_size > 2
    assert result.figures.padding_share == 0
    assert sum(size * count for size, count in result.batch_sizes.items()) == len(result.record.issued_s)
    assert not at_three_times_what_one_can(BatchPolicy(1)).valid


def test_static_padding_is_counted(sleeping, numbers):
    work = work_of(sleeping(SERVICE_S, 8), numbers, BatchPolicy(8, static=True))
    result = run_test(LoadTest("server", 20.0, **{**SHORT, "max_duration_s": 6.0}), work)
    assert result.figures.padding_share == pytest.approx(1 - result.figures.mean_batch_size / 8)
    assert result.figures.padding_share > 0.7


@pytest.mark.parametrize("scenario", ["single_stream", "offline"])
def test_the_other_scenarios_are_valid_too(sleeping, numbers, scenario):
    work = work_of(sleeping(SERVICE_S, 4), numbers, BatchPolicy(4, static=True))
    capacity = {"single_stream": 1 / SERVICE_S, "offline": 4 / SERVICE_S}[scenario]
    result = run_test(LoadTest(scenario, 1.3 * capacity, **{**SHORT, "max_duration_s": 20.0}), work)
    assert result.valid, result.reason
    assert 0 < result.completed_per_s < 1.01 * capacity


def test_a_cell_that_fails_while_it_serves_is_an_error_with_its_reason_and_ends_the_test(sleeping, numbers):
    work = work_of(sleeping(SERVICE_S, 1, fails=True), numbers, BatchPolicy(1, static=True))
    with pytest.raises(CellError, match="failed under load: RuntimeError: out of memory"):
        run_test(LoadTest("server", 50.0, **SHORT), work)

"""Real engines that serve: every request gets its own image's answer, whatever the batches it was in."""

from __future__ import annotations

import time

import numpy as np
import pytest

from harness.networks.data.dataset import images
from harness.serving.policy import BatchPolicy
from harness.serving.records import QueryRecord, Request, figures
from harness.serving.work import Work
from harness.techniques.arch.exit_policy import ExitPolicy, calibrate_threshold, confidence
from harness.techniques.arch.stages import ONE_STAGE, Bound

IMAGES = images(3, 24, (3, 64, 64))


def plain(executables, samples) -> list[dict[str, np.ndarray]]:
    """Return each image's outputs of one stage, a full batch of copies at a time."""
    out = []
    for sample in samples:
        size = len(executables.input_buffers()[executables.input_specs[0].name])
        executables.write_inputs({executables.input_specs[0].name: np.repeat(sample[None], size, axis=0)})
        executables.enqueue(size)
        out.append({name: array[0].copy() for name, array in executables.outputs(size).items()})
    return out


def serve_all(work, groups) -> list[Request]:
    """Let the requests come in groups; return all in the order of their images."""
    work.keeps_answers = True
    requests, done = [], []
    for group in groups:
        one = [Request(sample, sample, time.perf_counter()) for sample in group]
        requests += one
        work.take_in(one)
        while work.start(flush=True) is None and len(group) > work.room():
            done += work.answered()
        done += work.answered()
    while len(done) < len(requests):
        done += work.answered()
        if not work.busy:
            work.start(flush=True)
    assert sorted(one.query_id for one in done) == sorted(one.query_id for one in requests)
    return requests


@pytest.fixture(scope="module")
def whole(loaded):
    return loaded("hw=dynamic_batching", "batch_size=4")


@pytest.fixture(scope="module")
def two_stages(loaded):
    return loaded("arch=early_exit", "hw=dynamic_batching", "batch_size=4")


def calibrated(first) -> ExitPolicy:
    logits = np.stack([one["exit_logits"] for one in plain(first, IMAGES)])
    threshold, share = calibrate_threshold(confidence(logits), 0.5)
    return ExitPolicy("threshold", share, threshold)


def test_a_request_gets_the_answer_of_its_own_image_in_batches_of_any_size(whole):
    _, _, (engine,) = whole
    work = Work((engine,), (BatchPolicy(8),), ONE_STAGE, {"input": IMAGES})
    requests = serve_all(work, [[0], [1, 2, 3], [9, 8, 7, 6, 5], [4], list(range(10, 18)), list(range(18, 24))])
    expected = plain(engine, IMAGES)
    for request in requests:
        np.testing.assert_allclose(request.answer, expected[request.sample]["logits"], rtol=1e-3, atol=1e-4)
    assert sum(run.requests for run in work.runs) == 24


def test_a_dropped_request_leaves_nothing_behind_for_the_next_one(whole):
    _, _, (engine,) = whole
    work = Work((engine,), (BatchPolicy(8, max_queue_delay_us=10**9),), ONE_STAGE, {"input": IMAGES})
    work.take_in([Request(0, 0, time.perf_counter()), Request(1, 1, time.perf_counter())])
    assert work.start(flush=False) > 900
    assert [one.query_id for one in work.drop()] == [0, 1]
    (request,) = serve_all(work, [[5]])
    np.testing.assert_allclose(request.answer, plain(engine, IMAGES[5:6])[0]["logits"], rtol=1e-3, atol=1e-4)


def test_who_is_sure_leaves_early_and_the_others_get_the_last_head(two_stages):
    _, _, (first, second) = two_stages
    exits = calibrated(first)
    work = Work((first, second), (BatchPolicy(8), BatchPolicy(4, 10**6)), exits, {"input": IMAGES})
    requests = serve_all(work, [list(range(start, start + 6)) for start in (0, 6, 12, 18)])
    early = plain(first, IMAGES)
    late = plain(second, np.stack([one["features"] for one in early]))
    for request in requests:
        sure = confidence(early[request.sample]["exit_logits"][None])[0] >= exits.threshold
        assert request.exited == sure
        expected = early[request.sample]["exit_logits"] if sure else late[request.sample]["logits"]
        np.testing.assert_allclose(request.answer, expected, rtol=1e-3, atol=1e-4)
    assert 0 < sum(one.exited for one in requests) < 24


def test_a_second_stage_is_filled_with_survivors_of_several_first_ones(two_stages):
    _, _, (first, second) = two_stages
    nobody = ExitPolicy("threshold", 0.0, float("inf"))
    work = Work((first, second), (BatchPolicy(2), BatchPolicy(4, 10**7)), nobody, {"input": IMAGES})
    requests = [Request(sample, sample, time.perf_counter()) for sample in range(8)]

    def step() -> None:
        if not work.busy:
            work.start(flush=False)
        work.answered()

    for start in range(0, 8, 2):  # two at a time; the next two are there before the last are through
        while work.room() < 2:
            step()
        work.take_in(requests[start : start + 2])
    while any(np.isnan(one.completed_s) for one in requests):
        step()
    second_runs = [run for run in work.runs if run.stage == 2]
    assert [run.requests for run in second_runs] == [4, 4]


@pytest.mark.parametrize(("all_leave", "second_stages"), [(True, 0), (False, 24)])
def test_the_bounds_of_a_router_are_everybody_and_nobody(two_stages, all_leave, second_stages):
    _, _, (first, second) = two_stages
    bound = Bound(calibrated(first), all_leave)
    work = Work((first, second), (BatchPolicy(8), BatchPolicy(4, 0)), bound, {"input": IMAGES})
    requests = serve_all(work, [list(range(start, start + 8)) for start in (0, 8, 16)])
    work.start(flush=True)
    assert sum(run.requests for run in work.runs if run.stage == 2) == second_stages
    record = QueryRecord.of(requests)
    assert record.early_share == (0.0 if second_stages else 1.0)
    assert figures(record, work.runs, has_router=True).host_sync_ms > 0

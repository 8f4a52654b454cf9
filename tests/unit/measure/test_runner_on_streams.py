"""A batch on a GPU: tensors take the same way as arrays, stages wait for each other's streams, graphs are replayed.

The tensors are the CPU's; the streams note who waits for whom, and on which of them torch is told to work.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from simulated_stages import BATCH, CLASSES, Stage, two_stages

from harness.measure.runner import Runner
from harness.system.errors import CellError
from harness.techniques.arch.exit_policy import ExitPolicy
from harness.techniques.arch.stages import ONE_STAGE, Router

LEAVING = (1, 4, 5)  # by `inputs`: the surest half


def inputs(seed: int = 0) -> np.ndarray:
    """Return a batch whose samples 1, 4 and 5 have by far the clearest exit logits."""
    out = np.random.default_rng(seed).uniform(0, 0.5, (BATCH, CLASSES)).astype(np.float32)
    out[LEAVING, (0, 1, 2)] += 5
    return out


HALF = ExitPolicy("share", 0.5)


def answers(batch: np.ndarray) -> np.ndarray:
    """Return what a batch must give: who leaves has its exit logits, who stays the negated ones."""
    out = -batch
    out[list(LEAVING)] *= -1
    return out


@pytest.mark.parametrize("policy", [HALF, ExitPolicy("threshold", 0.5, 0.8)], ids=["share", "threshold"])
def test_tensors_take_the_same_way_as_arrays(gpu, policy):
    for on in (None, gpu):
        runner = Runner(two_stages(on), policy, BATCH)
        for seed in (0, 1):  # nothing stays of the first
            runner.write({"input": inputs(seed)})
            runner.launch()
            runner.wait()
            np.testing.assert_array_equal(runner.results["logits"], answers(inputs(seed)))
        found = runner.verify({"input": inputs(2)})
        np.testing.assert_array_equal(found.final, answers(inputs(2)))
        np.testing.assert_array_equal(found.heads["logits"], -inputs(2))
        assert np.flatnonzero(found.left_after == 0).tolist() == sorted(LEAVING)
        assert isinstance(runner.results["logits"], np.ndarray if on is None else torch.Tensor)


def test_who_left_is_told_by_the_decision_that_was_carried_out(gpu, monkeypatch):
    """The device's softmax may part two samples of nearly the same confidence otherwise than the host's."""
    decide = ExitPolicy.goes_on
    monkeypatch.setattr(ExitPolicy, "goes_on", lambda *given: (decide(*given) + 1) % BATCH)
    found = Runner(two_stages(gpu), HALF, BATCH).verify({"input": inputs()})
    stayed = sorted((one + 1) % BATCH for one in set(range(BATCH)) - set(LEAVING))
    assert np.flatnonzero(found.left_after).tolist() == stayed
    early, last = found.heads["exit_logits"], found.heads["logits"]
    np.testing.assert_array_equal(found.final, np.where(found.left_after[:, None] == 0, early, last))


@pytest.mark.parametrize(("exit_type", "last_type"), [("float32", "float16"), ("float16", "float32")])
@pytest.mark.parametrize("on_tensors", [True, False], ids=["tensors", "arrays"])
def test_answers_have_the_exits_type_whatever_the_last_stage_computes_in(gpu, exit_type, last_type, on_tensors):
    on = gpu if on_tensors else None
    stream = gpu.stream if on_tensors else None
    first = Stage("1", {"features": 1, "exit_logits": 1}, BATCH, [], on, stream, types={"exit_logits": exit_type})
    second = Stage("2", {"logits": -1}, BATCH, [], on, stream, types={"logits": last_type}, reads="features")
    runner = Runner((first, second), HALF, BATCH)
    runner.write({"input": inputs()})
    runner.launch()
    assert str(runner.results["logits"].dtype).removeprefix("torch.") == exit_type
    np.testing.assert_allclose(runner.results["logits"], answers(inputs()), rtol=1e-3)


@pytest.mark.parametrize("broken", ["exit_logits", "features", "logits"])
def test_a_value_that_is_no_number_is_found_in_whichever_output_it_is(gpu, broken):
    stages = two_stages(gpu)
    runner = Runner(stages, HALF, BATCH)
    stage = next(one for one in stages if broken in one.outputs_by_sign)
    stage.outputs_by_sign[broken] = float("inf")
    with pytest.raises(CellError, match=rf"^wrong output: 24 of 24 values of '{broken}' are not finite"):
        runner.verify({"input": inputs() + 1})


@pytest.mark.parametrize("router", [ONE_STAGE, HALF])
def test_a_router_for_another_number_of_stages_is_a_bug(gpu, router):
    with pytest.raises(ValueError, match=r"3 stages with .*, which routes [12]"):
        Runner((*two_stages(gpu), *two_stages(gpu)[:1]), router, BATCH)


def test_each_stage_waits_for_the_others_stream_and_torch_works_on_the_second_ones(gpu):
    log: list[tuple[Any, ...]] = []
    first, second = two_stages(gpu, log=log)
    runner = Runner((first, second), HALF, BATCH)
    runner.write({"input": inputs()})
    log.clear()
    runner.launch()
    runner.wait()
    assert log == [
        ("wait", "first", "second"),  # the survivors of the last batch have been read
        ("enqueue", "stage1", BATCH),
        ("wait", "second", "first"),
        ("read", "stage1", second.stream),
        ("enqueue", "stage2", 3),
        ("read", "stage2", second.stream),
        ("synchronize", "stage1"),
        ("synchronize", "stage2"),
    ]


def test_two_stages_on_one_stream_are_in_order_without_waiting(gpu):
    log: list[tuple[Any, ...]] = []
    runner = Runner(two_stages(gpu, shared_stream=True, log=log), HALF, BATCH)
    runner.write({"input": inputs()})
    runner.launch()
    assert [entry for entry in log if entry[0] == "wait"] == []
    np.testing.assert_array_equal(runner.results["logits"], answers(inputs()))


def test_a_replay_gives_what_a_launch_gives_from_both_graphs_the_second_of_the_survivors(gpu):
    log: list[tuple[Any, ...]] = []
    first, second = two_stages(gpu, log=log)
    runner = Runner((first, second), HALF, BATCH)
    runner.write({"input": inputs()})
    assert runner.capture() is None
    assert (first.captured, second.captured) == ([BATCH], [3])
    log.clear()
    runner.replay()
    runner.wait()
    np.testing.assert_array_equal(runner.results["logits"], answers(inputs()))
    assert [entry[:2] for entry in log] == [
        ("wait", "first"),
        ("replay", "stage1"),
        ("wait", "second"),
        ("read", "stage1"),
        ("replay", "stage2"),
        ("read", "stage2"),
        ("synchronize", "stage1"),
        ("synchronize", "stage2"),
    ]


@pytest.mark.parametrize("way", ["launch", "replay"])
def test_where_all_leave_the_second_stage_is_neither_captured_nor_run(gpu, way):
    log: list[tuple[Any, ...]] = []
    first, second = two_stages(gpu, log=log)
    runner = Runner((first, second), ExitPolicy("share", 1.0), BATCH)
    runner.write({"input": inputs()})
    assert runner.capture() is None
    assert (first.captured, second.captured) == ([BATCH], [])
    getattr(runner, way)()
    np.testing.assert_array_equal(runner.results["logits"], inputs())
    assert {entry[1] for entry in log if entry[0] in ("enqueue", "replay")} == {"stage1"}


def test_why_an_exit_can_not_be_captured_is_the_thresholds_or_the_first_stage_that_refuses(gpu):
    first, second = two_stages(gpu)
    threshold = Runner((first, second), ExitPolicy("threshold", 0.5, 0.8), BATCH)
    assert threshold.capture() == "only the host knows how many samples go on to the next stage"
    second.refuses = "stage 2 allocates"
    runner = Runner((first, second), HALF, BATCH)
    assert (runner.capture(), first.captured) == ("stage 2 allocates", [BATCH])
    first.refuses = "stage 1 allocates"
    assert runner.capture() == "stage 1 allocates"
    assert second.captured == []


def test_poison_reaches_every_tensor_that_a_batch_writes(gpu):
    first, second = two_stages(gpu)
    runner = Runner((first, second), HALF, BATCH)
    runner.write({"input": inputs()})
    runner.launch()
    runner.poison()
    written = (*first.output_buffers().values(), *second.output_buffers().values(), runner.results["logits"])
    assert all(tensor.isnan().all() for tensor in written)
    assert second.input_buffers()["features"].isnan().all()  # what the first stage packs for the second
    np.testing.assert_array_equal(runner.input_buffers["input"], inputs())  # a batch reads it and does not write it


def test_a_whole_network_is_captured_and_replayed_for_its_batch_in_an_engine_with_room_for_more(gpu):
    stage = Stage("whole", {"logits": -1}, BATCH + 2, [], gpu, gpu.stream)
    runner = Runner((stage,), ONE_STAGE, BATCH)
    runner.write({"input": inputs()})
    assert runner.capture() is None
    assert stage.captured == [BATCH]
    assert runner.stream is stage.stream
    assert runner.input_buffers["input"] is stage.input_buffers()["input"]
    runner.poison()
    assert runner.results["logits"].shape == (BATCH, CLASSES)
    assert runner.results["logits"].isnan().all()
    runner.replay()
    np.testing.assert_array_equal(runner.results["logits"], -inputs())
    assert ("replay", "whole", BATCH) in stage.log
    stage.refuses = "the engine allocates"
    assert runner.capture() == "the engine allocates"


@dataclass(frozen=True)
class Largest(Router):
    """Whoever has the largest first logit leaves: one of the batch after each stage."""

    heads: ClassVar[tuple[str, ...]] = ("early", "middle", "logits")
    counts_are_known: ClassVar[bool] = True

    def leaves(self, stage: int, logits: Any) -> Any:
        return logits[:, 0] == logits[:, 0].max()

    def reaching(self, stage: int, batch_size: int) -> int:
        return batch_size - stage


@pytest.mark.parametrize("way", ["launch", "replay"])
@pytest.mark.parametrize("on_tensors", [True, False], ids=["tensors", "arrays"])
def test_of_three_stages_each_runs_on_those_that_the_router_lets_through_to_it(gpu, on_tensors, way):
    on, stream = (gpu, gpu.stream) if on_tensors else (None, None)
    log: list[tuple[Any, ...]] = []
    stages = (
        Stage("1", {"wide": 1, "early": 1}, BATCH, log, on, stream),
        Stage("2", {"narrow": 2, "middle": 10}, BATCH, log, on, stream, reads="wide"),
        Stage("3", {"logits": -1}, BATCH, log, on, stream, reads="narrow"),
    )
    runner = Runner(stages, Largest(), BATCH)
    batch = inputs()
    order = np.argsort(-batch[:, 0])
    expected = -2 * batch
    expected[order[0]], expected[order[1]] = batch[order[0]], 10 * batch[order[1]]
    found = runner.verify({"input": batch})
    np.testing.assert_allclose(found.final, expected, rtol=1e-6)
    assert found.left_after[order].tolist() == [0, 1, 2, 2, 2, 2]
    np.testing.assert_allclose(found.heads["middle"], 10 * batch, rtol=1e-6)
    assert runner.capture() is None
    assert [stage.captured for stage in stages] == [[BATCH], [BATCH - 1], [BATCH - 2]]
    runner.poison()
    log.clear()
    getattr(runner, way)()
    np.testing.assert_allclose(runner.results["logits"], expected, rtol=1e-6)
    runs = [entry[1:] for entry in log if entry[0] in ("enqueue", "replay")]
    assert runs == [("1", BATCH), ("2", BATCH - 1), ("3", BATCH - 2)]

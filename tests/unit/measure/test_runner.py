"""One batch through one cell: who leaves early gets the exit's answer, who stays the network's, each its own."""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np
import pytest
import torch

from harness.engines import get
from harness.measure.runner import Runner, _pack
from harness.system.errors import CellError
from harness.techniques.arch.exit_policy import ExitPolicy, confidence
from harness.techniques.arch.recipe import rebuild
from harness.techniques.arch.stages import ONE_STAGE, stages

BATCH = 6


@pytest.fixture(scope="module")
def cells(prepared):
    """Return an early exit of a batch of 6 of which 2 leave: `arch` on eager, `combined` on ONNX Runtime, fused."""
    options = ("arch=early_exit", "arch.early_exit.exit_share=0.33", f"batch_size={BATCH}", "hw=fusion")
    return prepared(*options)[1]


@pytest.fixture(params=["arch", "combined"], ids=["eager", "onnxruntime"])
def cell(request, cells):
    return cells[request.param]


@pytest.fixture
def runner(cell):
    with ExitStack() as stack:
        executables = tuple(
            stack.enter_context(get(artifact.plan.engine).load(artifact, "cpu")) for artifact in cell.artifacts
        )
        yield Runner(executables, cell.router, BATCH)


def heads(cell, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (exit logits, last logits) of all samples in eager."""
    first, second = (stage.module for stage in stages(rebuild(cell.recipe)))
    with torch.inference_mode():
        features, early = first(torch.from_numpy(inputs))
        return early.numpy(), second(features).numpy()


def test_who_leaves_has_the_exits_answer_and_who_stays_the_networks_in_the_samples_order(cell, runner, images):
    inputs = images(BATCH)
    early, last = heads(cell, inputs)
    leaving = np.argsort(-confidence(early), kind="stable")[:2]
    staying = np.setdiff1d(np.arange(BATCH), leaving)
    runner.write({"input": inputs})
    runner.launch()
    runner.wait()
    final = np.array(runner.results["logits"])
    np.testing.assert_allclose(final[leaving], early[leaving], rtol=0, atol=1e-5)
    np.testing.assert_allclose(final[staying], last[staying], rtol=0, atol=1e-5)
    assert np.abs(early - last).max() > 0.01  # the two heads do differ, so the above tells them apart


def test_another_batch_has_nothing_of_the_one_before(cell, runner, images):
    for seed in (1, 2):
        inputs = images(BATCH, seed)
        runner.write({"input": inputs})
        runner.launch()
        runner.wait()
    with torch.inference_mode():
        expected = rebuild(cell.recipe)(torch.from_numpy(inputs)).numpy()
    np.testing.assert_allclose(np.array(runner.results["logits"]), expected, rtol=0, atol=1e-5)


def test_samples_keep_their_answers_when_the_batch_is_reordered(runner, images):
    inputs = images(BATCH)
    order = np.array([3, 0, 5, 1, 4, 2])
    results = []
    for batch in (inputs, inputs[order]):
        runner.write({"input": batch})
        runner.launch()
        runner.wait()
        results.append(np.array(runner.results["logits"]))
    np.testing.assert_allclose(results[1], results[0][order], rtol=0, atol=1e-5)


def test_verification_gives_both_heads_for_all_samples_and_an_exact_share_of_exits(cell, runner, images):
    inputs = images(BATCH)
    early, last = heads(cell, inputs)
    found = runner.verify({"input": inputs})
    np.testing.assert_allclose(found.heads["exit_logits"], early, rtol=0, atol=1e-5)
    np.testing.assert_allclose(found.heads["logits"], last, rtol=0, atol=1e-5)
    assert (found.left_after == 0).sum() == 2
    np.testing.assert_allclose(found.final, np.where(found.left_after[:, None] == 0, early, last), rtol=0, atol=1e-5)


def test_a_run_of_verification_does_not_stay_in_the_way_of_timed_ones(cell, runner, images):
    runner.verify({"input": images(BATCH, seed=1)})
    inputs = images(BATCH, seed=2)
    runner.write({"input": inputs})
    runner.launch()
    runner.wait()
    with torch.inference_mode():
        expected = rebuild(cell.recipe)(torch.from_numpy(inputs)).numpy()
    np.testing.assert_allclose(np.array(runner.results["logits"]), expected, rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def roomy(prepared):
    """Return an early exit on eager whose second stage has room for the whole batch."""
    return prepared("arch=early_exit", "arch.early_exit.exit_share=0.0", f"batch_size={BATCH}")[1]["arch"]


def verified(cell, policy: ExitPolicy, inputs: np.ndarray):
    with ExitStack() as stack:
        executables = tuple(stack.enter_context(get("eager").load(artifact, "cpu")) for artifact in cell.artifacts)
        return Runner(executables, policy, BATCH).verify({"input": inputs})


@pytest.mark.parametrize(("share", "leave"), [(0.0, 0), (0.5, 3), (1.0, 6)])
def test_every_share_is_exact_none_and_all_included(roomy, images, share, leave):
    inputs = images(BATCH)
    early, last = heads(roomy, inputs)
    found = verified(roomy, ExitPolicy("share", share), inputs)
    assert (found.left_after == 0).sum() == leave
    np.testing.assert_allclose(found.final, np.where(found.left_after[:, None] == 0, early, last), rtol=0, atol=1e-5)


def test_a_threshold_lets_go_whoever_reaches_it(roomy, images):
    inputs = images(BATCH)
    early, last = heads(roomy, inputs)
    sure = confidence(early)
    level = float(np.sort(sure)[::-1][3:5].mean())  # between the fourth and the fifth most confident one
    found = verified(roomy, ExitPolicy("threshold", 0.5, level), inputs)
    assert (found.left_after == 0).tolist() == (sure >= level).tolist()
    assert (found.left_after == 0).sum() == 4
    np.testing.assert_allclose(found.final, np.where(found.left_after[:, None] == 0, early, last), rtol=0, atol=1e-5)


def test_a_whole_network_gives_the_batch_that_was_written(prepared, images):
    cell = prepared("hw=fusion", "reference=engine")[1]["hw"]
    inputs = images(2)
    with torch.inference_mode():
        expected = rebuild(cell.recipe)(torch.from_numpy(inputs)).numpy()
    with get("onnxruntime").load(cell.artifacts[0], "cpu") as executable:
        runner = Runner((executable,), ONE_STAGE, 2)
        found = runner.verify({"input": inputs})
        np.testing.assert_allclose(found.final, expected, rtol=0, atol=1e-5)
        runner.write({"input": inputs[::-1].copy()})
        runner.launch()
        runner.wait()
        np.testing.assert_allclose(np.array(runner.results["logits"]), expected[::-1], rtol=0, atol=1e-5)


def test_what_is_poisoned_is_every_stages_output_and_the_result(runner, images):
    runner.write({"input": images(4)})
    runner.launch()
    runner.wait()
    assert np.isfinite(runner.results["logits"]).all()
    runner.poison()
    assert np.isnan(runner.results["logits"]).all()
    for stage in runner._stages:
        assert all(np.isnan(buffer).all() for buffer in stage.output_buffers().values())


def test_a_second_stage_that_writes_nothing_is_noticed(cells, images):
    cell = cells["combined"]
    with ExitStack() as stack:
        executables = [stack.enter_context(get("onnxruntime").load(one, "cpu")) for one in cell.artifacts]
        runner = Runner(tuple(executables), cell.router, BATCH)
        runner.verify({"input": images(BATCH)})
        executables[1].enqueue = lambda batch_size=None: None  # an engine that lost its work
        with pytest.raises(CellError, match="values of 'logits' are not finite or were never written"):
            runner.verify({"input": images(BATCH)})


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["NCHW", "NHWC"])
def test_samples_are_packed_whole_in_either_layout(layout):
    features = torch.rand(4, 8, 3, 3).to(memory_format=layout)
    target = torch.zeros(4, 8, 3, 3).to(memory_format=layout)
    _pack(features, torch.tensor([1, 3]), target[:2])
    assert torch.equal(target[:2], features[[1, 3]])
    assert not target[2:].any()

"""Engines on a GPU: captured batches replay what is launched, our kernels compute the network, a build is kept."""

from __future__ import annotations

import numpy as np
import pytest

from harness.engines import get
from harness.engines.build import fetch_or_build
from harness.measure.clocks import Boundaries, check_replay
from harness.measure.progress import Silent
from harness.measure.runner import Runner
from harness.measure.verify import compare
from harness.sweep.build import build_quartet
from harness.sweep.plan import plan_quartet
from harness.system.errors import CellError

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU with CUDA"),
]


@pytest.fixture
def built(configured, cache):
    """Return a function: built("hw=fp16", engine="inductor") -> (plan, cells), built for the GPU."""

    def make(*overrides, engine):
        reason = get(engine).availability("cuda").run
        if reason is not None:
            pytest.skip(reason)
        plan = plan_quartet(configured("batch_size=4", *overrides), engine, "cuda")
        return plan, build_quartet(plan, cache, Silent())

    return make


def opened(cell, batch_size, stack):
    """Return the runner of a prepared cell in this process."""
    executables = tuple(
        stack.enter_context(get(artifact.plan.engine).load(artifact, "cuda")) for artifact in cell.artifacts
    )
    return executables, Runner(executables, cell.router, batch_size)


@pytest.fixture
def stack():
    from contextlib import ExitStack

    with ExitStack() as entered:
        yield entered


QUICK = "engine.builder_level=0"  # its level 3 takes a minute a cell, and is in the first of its rows
ACCELERATED = [
    ("eager", ("hw=fp16",)),
    ("onnxruntime", ("hw=[fp16,fusion]",)),
    ("onnxruntime", ("hw=fp16", "reference=engine")),
    ("inductor", ("hw=fp16",)),
    ("inductor", ("hw=[fp16,fusion,dynamic_batching]",)),
    ("inductor", ("hw=[fp16,fusion]",)),
    ("inductor", ("hw=[fp16,fusion]", "hw.fusion.dense_blocks=true")),
    ("inductor", ("hw=[fp16,fusion]", "hw.fusion.dense_blocks=true", "arch=early_exit")),
    ("tensorrt", ("hw=fusion", "reference=engine")),
    ("tensorrt", ("hw=[fp16,fusion]", "arch=early_exit", QUICK)),
    (
        "tensorrt",
        ("hw=[fp16,fusion,dynamic_batching]", "arch=[grouped,low_rank]", "engine.profiles=[[1,2,3],[4,4,8]]", QUICK),
    ),
    (
        "tensorrt",
        ("hw=fp16", "arch=[reduced_growth,pruned]", "arch.reduced_growth.growth_rate=6", "engine.channels_last=true"),
    ),
]


@pytest.mark.parametrize(("engine", "overrides"), ACCELERATED)
def test_every_engine_computes_the_network_and_has_a_device_boundary(built, stack, engine, overrides):
    _, cells = built(*overrides, engine=engine)
    for role in ("baseline", "combined" if "combined" in cells else "hw"):
        cell = cells[role]
        executables, runner = opened(cell, 4, stack)
        expected = cell.expected
        compare(runner.verify(expected.inputs), expected, cell.artifacts[0].plan.arithmetic)
        boundaries = Boundaries(runner, expected.inputs)  # a replay into poisoned buffers gives what a launch gives
        assert boundaries.names == ("device", "wall", "end_to_end"), boundaries.missing
        shortfalls = [reason for executable in executables for reason in executable.degraded]
        assert all("as requested" in reason for reason in shortfalls), shortfalls  # QUICK builds below fusion's level
        counts = [executable.kernel_count() for executable in executables]
        assert all(count and count > 5 for count in counts), counts


def test_a_graph_that_replays_another_result_has_no_time(built, stack):
    _, cells = built("hw=fp16", engine="eager")
    (executable,), runner = opened(cells["hw"], 4, stack)
    runner.write({"input": np.random.default_rng(0).standard_normal((4, 3, 64, 64)).astype(np.float32)})
    assert runner.capture() is None
    check_replay(runner)
    replay = executable.replay

    def wrong(batch_size):
        replay(batch_size)
        with torch.inference_mode(), torch.cuda.stream(executable.stream):
            executable.output_buffers()["logits"].mul_(1.1)

    executable.replay = wrong
    with pytest.raises(CellError, match="outputs differ from a launch"):
        check_replay(runner)


def test_our_kernels_run_all_dense_blocks_with_fewer_kernels(built, stack):
    _, plain = built("hw=[fp16,fusion]", engine="inductor")
    _, ours = built("hw=[fp16,fusion]", "hw.fusion.dense_blocks=true", engine="inductor")
    artifact = ours["hw"].artifacts[0]
    assert artifact.proof["fused_dense_blocks"] > 0
    assert artifact.degraded == ()
    counts = []
    for cells in (plain, ours):
        (executable,), _ = opened(cells["hw"], 4, stack)
        counts.append(executable.kernel_count())
    assert counts[1] < counts[0]


@pytest.mark.parametrize(("engine", "overrides"), [("inductor", ()), ("onnxruntime", ()), ("tensorrt", (QUICK,))])
def test_what_was_built_on_this_gpu_is_not_built_again(built, cache, engine, overrides):
    _, cells = built("hw=[fp16,fusion]", *overrides, engine=engine)
    again = [fetch_or_build(artifact.plan, cache) for artifact in cells["hw"].artifacts]
    assert all(one.hit for one in again)

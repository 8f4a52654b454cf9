"""What TensorRT's builds do on their way: they are watched, cancelled at a limit, and get graphs that suit them."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from harness.engines import base
from harness.engines.base import BuildPlan, Graph, listen_to_builds
from harness.engines.tensorrt import builder as builders
from harness.engines.tensorrt.builder import BuildWatch
from harness.engines.tensorrt.flavour import TENSORRT_FLAVOUR, TENSORRT_RTX_FLAVOUR
from harness.engines.tensorrt.network import nest
from harness.system import locks
from harness.system.errors import CellError
from harness.system.locks import locked
from harness.techniques.levels import BatchProfile

PLAN = BuildPlan("tensorrt", Graph(Path("absent.onnx"), "", (), (), 0), BatchProfile(1, 1, 1), device="cuda")


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_watch_says_the_outer_phases_that_count_and_how_far_they_are_twice_a_second_at_most():
    clock, said = Clock(), []
    watch = BuildWatch(said.append, 100.0, clock)
    watch.phase_start("Building engine", None, 3)
    watch.phase_start("Timing graph nodes", "Building engine", 371)
    watch.phase_start("Finding fastest tactic", "Timing graph nodes", 1)  # has nothing to count
    watch.phase_start("Measuring tactic time", "Finding fastest tactic", 4)
    for step in range(371):
        clock.now += 0.01
        assert watch.step_complete("Timing graph nodes", step)
    assert said[0] == "Building engine 0 of 3, Timing graph nodes 50 of 371"
    assert 5 <= len(said) <= 8  # 3.71 s
    watch.phase_finish("Measuring tactic time")
    watch.phase_finish("Finding fastest tactic")
    watch.phase_finish("Timing graph nodes")
    clock.now += 1
    watch.step_complete("Building engine", 0)
    assert said[-1] == "Building engine 1 of 3"


def test_a_watch_ends_a_build_past_its_limit_and_not_before():
    clock = Clock()
    watch = BuildWatch(lambda text: None, 10.0, clock)
    watch.phase_start("Timing", None, 5)
    clock.now = 9.9
    assert watch.step_complete("Timing", 0) and not watch.cancelled
    clock.now = 10.1
    assert not watch.step_complete("Timing", 1) and watch.cancelled


def test_a_watch_takes_calls_from_several_threads():
    watch = BuildWatch(lambda text: None, 100.0)

    def phases(number: int) -> None:
        for step in range(300):
            watch.phase_start(f"phase {number}", None, 10)
            watch.step_complete(f"phase {number}", step % 10)
            watch.phase_finish(f"phase {number}")

    threads = [threading.Thread(target=phases, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert watch._phases == {}


class FakeBuilder:
    """Stands for `trt.Builder`, which needs a GPU: a build of a level takes as long as `seconds` says."""

    def __init__(self, clock: Clock, seconds: dict[int, float]) -> None:
        self.clock, self.seconds = clock, seconds

    def build_serialized_network(self, network, config):
        config.progress_monitor.phase_start("Timing", None, 10)
        for step in range(10):
            self.clock.now += self.seconds[config.level] / 10
            if not config.progress_monitor.step_complete("Timing", step):
                return None
        return b"engine"


@pytest.fixture
def levels(monkeypatch):
    """Return a function: levels({3: 50.0, ...}, limit_s) -> what `_at_the_highest_level` returns, and what was said."""
    clock, said, kept = Clock(), [], []
    monkeypatch.setattr(builders, "BuildWatch", lambda tell, limit_s: BuildWatch(tell, limit_s, clock))
    monkeypatch.setattr(builders, "monitor_of", lambda trt, watch: watch)
    monkeypatch.setattr(builders, "configure", lambda *arguments: SimpleNamespace(level=arguments[-1]))
    monkeypatch.setattr(builders, "_settings", lambda trt, config: {"builder_level": config.level})
    monkeypatch.setattr(builders.networks, "set_batch", lambda *arguments: None)
    monkeypatch.setattr(type(TENSORRT_FLAVOUR), "module", lambda self: SimpleNamespace(__version__="10.6"))
    monkeypatch.setattr(builders.timing_cache, "path_of", lambda *arguments: Path("timings"))
    monkeypatch.setattr(builders.timing_cache, "attach", lambda *arguments: "new")
    monkeypatch.setattr(builders.timing_cache, "keep", lambda config, path: kept.append(config.level))
    listen_to_builds(lambda kind, text: said.append((kind, text)))

    def run(seconds, limit_s, flavour=TENSORRT_FLAVOUR):
        plan = replace(PLAN, fusion="max", options=(("build_limit_s", limit_s),))
        maker = FakeBuilder(clock, seconds)
        return (*builders._at_the_highest_level(flavour, maker, None, plan, (9, 0), []), said, kept)

    yield run
    listen_to_builds(None)


def test_a_level_that_passes_the_limit_is_cancelled_the_next_lower_one_is_built_and_the_row_says_so(levels):
    highest, lower, *_ = TENSORRT_FLAVOUR.levels["max"]
    engine, settings, failures, said, kept = levels({highest: 500.0, lower: 50.0}, 100.0)
    assert (engine, settings["builder_level"]) == (b"engine", lower)
    assert failures == (f"builder level {highest} did not end within engine.build_limit_s=100",)
    assert [text for kind, text in said if kind == "attempt"] == [f"level {highest}", f"level {lower}"]
    assert ("status", f"level {lower}: Timing 5 of 10") in said
    assert kept == [highest, lower]  # what a cancelled level has timed is kept too


def test_where_no_level_ends_in_time_the_cell_fails_and_names_them_all(levels):
    slow = dict.fromkeys(TENSORRT_FLAVOUR.levels["max"], 500.0)
    with pytest.raises(CellError, match=r"was not built: .*level 3 did not end .*level 1 did not end") as refusal:
        levels(slow, 100.0)
    assert "\n" not in str(refusal.value)


@pytest.fixture
def a_gpu(monkeypatch, tmp_path):
    """A GPU's locks of this test alone; return the name of the one that who times kernels on it holds."""
    monkeypatch.setenv("HARNESS_LOCK_DIR", str(tmp_path))
    monkeypatch.setenv(locks.LIMIT_VARIABLE, "30")  # a build that waits for ever fails
    monkeypatch.setattr(base, "gpu", lambda: {"uuid": "GPU-a"})
    return "tuning-GPU-a"


def test_a_build_waits_for_another_that_times_kernels_there_and_then_takes_its_timings(levels, a_gpu, monkeypatch):
    order, done = [], []
    monkeypatch.setattr(locks, "_TELL_EVERY_S", 0.05)
    monkeypatch.setattr(builders.timing_cache, "attach", lambda *arguments: order.append("attached") or "warm")
    thread = threading.Thread(target=lambda: done.append(levels({3: 50.0}, 100.0)))
    with locked(a_gpu):
        thread.start()
        time.sleep(0.5)
        assert not done and not order
        order.append("the other one is done")
    thread.join(60)
    said = done[0][3]
    assert order == ["the other one is done", "attached"]
    # an attempt: the parent process begins to count its limit anew, as often as it hears that
    assert said.count(("attempt", "waits until no other build times kernels")) >= 2
    (waited_s,) = (float(text) for kind, text in said if kind == "waited")
    assert waited_s >= 0.4
    assert said.index(("attempt", "level 3")) > said.index(("attempt", "waits until no other build times kernels"))


def test_a_build_that_needs_no_gpu_waits_for_nobody(levels, a_gpu):
    with locked(a_gpu):
        assert levels({5: 50.0}, 100.0, TENSORRT_RTX_FLAVOUR)[0] == b"engine"


def test_a_gpu_is_let_go_by_a_build_that_fails(levels, a_gpu):
    with pytest.raises(CellError, match="was not built"):
        levels(dict.fromkeys(TENSORRT_FLAVOUR.levels["max"], 500.0), 100.0)
    with locks.try_lock(a_gpu) as free:
        assert free


def dense_graph(axis: int = 1):
    """Return an ONNX model that joins its inputs as a dense block does: [a, b], [a, b, c], [a, b, c, d]."""
    from onnx import TensorProto, helper

    names = "abcd"
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", n + 1, 2]) for n, name in enumerate(names)
    ]
    nodes = [
        helper.make_node("Concat", list(names[: count + 1]), [f"joined{count}"], axis=axis)
        for count in range(1, len(names))
    ]
    outputs = [helper.make_tensor_value_info(f"joined{n}", TensorProto.FLOAT, ["batch", None, 2]) for n in range(1, 4)]
    graph = helper.make_graph(nodes, "dense", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def run(model, feeds):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # node by node, as they are written
    return ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"]).run(None, feeds)


def test_nested_concatenations_join_the_same_values_with_two_inputs_each():
    import onnx

    rng = np.random.default_rng(0)
    feeds = {name: rng.standard_normal((3, n + 1, 2)).astype(np.float32) for n, name in enumerate("abcd")}
    model = dense_graph()
    before = run(model, feeds)
    assert nest(model) == 2
    onnx.checker.check_model(model)
    assert [list(node.input) for node in model.graph.node] == [["a", "b"], ["joined1", "c"], ["joined2", "d"]]
    assert all(np.array_equal(*pair) for pair in zip(before, run(model, feeds), strict=True))
    assert nest(model) == 0  # nothing is left to rewrite


def test_concatenations_along_another_axis_or_that_begin_otherwise_are_left_alone():
    model = dense_graph()
    first, _, third = model.graph.node
    first.attribute[0].i = 2
    third.input[0], third.input[1] = "b", "a"
    before = model.SerializeToString()
    assert nest(model) == 0
    assert model.SerializeToString() == before


def test_a_densenets_graph_is_nested_and_computes_the_same_to_the_bit(prepared, images):
    import onnx

    _, cells = prepared(
        "reference=engine"
    )  # in fp32: where a CPU emulates fp16, casts are put in and left out by layout
    model = onnx.load(cells["baseline"].artifacts[0].plan.graph.path)
    feeds = {model.graph.input[0].name: images(2)}
    before = run(model, feeds)
    assert nest(model) > 0
    assert all(np.array_equal(*pair) for pair in zip(before, run(model, feeds), strict=True))

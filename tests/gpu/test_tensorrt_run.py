"""TensorRT on a GPU. Stream, capture and buffers need any CUDA GPU; engines need one that the package supports."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.engines.base import INSPECTOR_FILE, BuildPlan, Graph, TensorSpec
from harness.engines.tensorrt import TENSORRT, TENSORRT_RTX, TensorRtEngine
from harness.system.errors import CellError
from harness.techniques.levels import BatchProfile

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU with CUDA"),
]

INPUT, OUTPUT = TensorSpec("x", (-1, 3, 32, 32), "float32"), TensorSpec("y", (-1, 16), "float32")


@pytest.fixture
def stream():
    """Return the process's stream, as torch sees it, and its handle."""
    from harness.engines.cuda_graphs import process_stream

    own = process_stream()
    return own, int(own.cuda_stream)


def test_a_captured_graph_replays_its_work_and_counts_its_kernels(stream):
    from harness.engines.tensorrt.cuda import capture

    view, handle = stream
    x = torch.zeros(1000, device="cuda")
    torch.cuda.synchronize()

    def work() -> None:
        with torch.cuda.stream(view):
            x.add_(1)
            x.mul_(2)

    work()
    view.synchronize()
    graph = capture(handle, work)
    assert graph.kernels == 2
    assert float(x[0]) == 2  # capturing ran nothing
    for _ in range(2):
        graph.launch()
    view.synchronize()
    assert float(x[0]) == 14
    graph.close()


def test_a_capture_that_fails_leaves_the_stream_usable(stream):
    from harness.engines.tensorrt.cuda import capture

    view, handle = stream
    x = torch.zeros(10, device="cuda")
    torch.cuda.synchronize()

    def breaks() -> None:
        raise CellError("execution failed")

    with pytest.raises(CellError, match="execution failed"):
        capture(handle, breaks)
    with pytest.raises(RuntimeError):  # waiting is forbidden inside a capture, and invalidates it
        capture(handle, lambda: view.synchronize() or x.add_(1))
    with pytest.raises(CellError, match="no kernel"):
        capture(handle, lambda: None)
    with torch.cuda.stream(view):
        x.add_(1)
    view.synchronize()
    assert float(x.sum()) == 10


def test_buffers_carry_batches_there_and_back_on_the_stream(stream):
    from harness.engines.tensorrt.runtime import Buffers

    view, _ = stream
    buffers = Buffers((TensorSpec("x", (-1, 3), "float32"), TensorSpec("h", (-1, 2), "float16")), 4, 0)
    full: dict[str, np.ndarray] = {"x": np.arange(12, dtype=np.float32).reshape(4, 3), "h": np.ones((4, 2), np.float16)}
    buffers.fill(float("nan"), view)
    assert np.isnan(buffers.read(4, view)["x"]).all()
    buffers.write(full, view)
    buffers.write({"x": full["x"][:2] + 100}, view)
    back = buffers.read(4, view)
    assert np.array_equal(back["x"], np.concatenate([full["x"][:2] + 100, full["x"][2:]]))
    assert back["h"].dtype == np.float16
    with pytest.raises(CellError, match="no input is called 'z'"):
        buffers.write({"z": full["x"]}, view)


def small_network(path: Path) -> tuple[Graph, torch.nn.Module]:
    from torch import nn

    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network = nn.Sequential(*layers, nn.Linear(16, 16)).eval()
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.onnx.export(
        network,
        (torch.zeros(2, 3, 32, 32),),
        dynamo=True,
        opset_version=18,
        input_names=["x"],
        output_names=["y"],
        dynamic_shapes=({0: batch},),
        verbose=False,
    )
    program.save(str(path), external_data=False)
    return Graph(path, "", (INPUT,), (OUTPUT,), 5), network


def skip_unless_it_runs(engine: TensorRtEngine) -> None:
    reason = engine.availability("cuda").run
    if reason is not None:
        pytest.skip(reason)
    if engine is TENSORRT_RTX and torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("TensorRT-RTX refuses fp32 products on compute capability 7.5")


@pytest.mark.parametrize("engine", [TENSORRT, TENSORRT_RTX], ids=lambda engine: engine.name)
@pytest.mark.parametrize("batch", [BatchProfile(4, 4, 4), BatchProfile(1, 4, 8)], ids=["static", "dynamic"])
@pytest.mark.parametrize("cuda_graph", [False, True], ids=["plain", "captured"])
def test_an_engine_computes_what_eager_computes(
    engine: TensorRtEngine, batch: BatchProfile, cuda_graph: bool, tmp_path
):
    skip_unless_it_runs(engine)
    graph, network = small_network(tmp_path / "small.onnx")
    plan = BuildPlan(engine.name, graph, batch, device="cuda", cuda_graph=cuda_graph, fusion="max")
    (tmp_path / "engine").mkdir()
    artifact = engine.build(plan, tmp_path / "engine")
    x = np.random.default_rng(0).standard_normal((batch.max_size, 3, 32, 32)).astype(np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(x)).numpy()
    with engine.load(artifact, "cuda") as executable:
        executable.write_inputs({"x": x})
        for size in (batch.min_size, batch.opt_size, batch.max_size, batch.opt_size):
            executable.poison_outputs()
            executable.enqueue(size)
            executable.synchronize()
            assert np.allclose(executable.outputs(size)["y"], expected[:size], atol=1e-3)
        assert executable.degraded == artifact.degraded
        assert executable.proof["captured"] == int(cuda_graph)
        assert executable.kernel_count() is None or executable.kernel_count() > 0
        with pytest.raises(CellError, match="outside the engine's profile"):
            executable.enqueue(batch.max_size + 1)


RANGES = (BatchProfile(1, 1, 2), BatchProfile(2, 8, 8))


@pytest.mark.parametrize("engine", [TENSORRT, TENSORRT_RTX], ids=lambda engine: engine.name)
def test_an_engine_with_two_profiles_computes_the_same_in_both_and_tells_its_layers(engine: TensorRtEngine, tmp_path):
    skip_unless_it_runs(engine)
    graph, network = small_network(tmp_path / "small.onnx")
    plan = BuildPlan(engine.name, graph, BatchProfile(1, 4, 8), device="cuda", cuda_graph=True, profiles=RANGES)
    (tmp_path / "engine").mkdir()
    artifact = engine.build(plan, tmp_path / "engine")
    assert artifact.proof["inspector"] == "kept"
    assert json.loads((artifact.path / INSPECTOR_FILE).read_text())["Layers"]
    x = np.random.default_rng(0).standard_normal((8, 3, 32, 32)).astype(np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(x)).numpy()
    with engine.load(artifact, "cuda") as executable:
        executable.write_inputs({"x": x})
        for size in (1, 8, 2, 3, 1):
            executable.poison_outputs()
            executable.enqueue(size)
            executable.synchronize()
            assert np.allclose(executable.outputs(size)["y"], expected[:size], atol=1e-3)


def test_a_pinned_timing_cache_builds_what_it_knows_and_fails_on_what_it_does_not(tmp_path):
    skip_unless_it_runs(TENSORRT)
    graph, _ = small_network(tmp_path / "small.onnx")
    shared = BuildPlan("tensorrt", graph, BatchProfile(4, 4, 4), device="cuda", timing_dir=str(tmp_path / "timing"))
    pinned = replace(shared, options=(("timing_cache", "pinned"),))

    def build(plan: BuildPlan, name: str) -> str:
        (tmp_path / name).mkdir()
        return str(TENSORRT.build(plan, tmp_path / name).proof["timing_cache"])

    assert [build(shared, "new"), build(shared, "warm"), build(pinned, "pinned")] == ["new", "warm", "pinned"]
    with pytest.raises(CellError, match="lacks a kernel of this network"):
        build(replace(pinned, batch=BatchProfile(64, 64, 64)), "miss")


def test_a_build_past_its_limit_is_cancelled_at_every_level_and_the_next_one_starts_with_what_was_timed(tmp_path):
    skip_unless_it_runs(TENSORRT)
    graph, _ = small_network(tmp_path / "small.onnx")
    plan = BuildPlan("tensorrt", graph, BatchProfile(4, 4, 4), device="cuda", timing_dir=str(tmp_path / "timing"))
    in_no_time = replace(plan, fusion="max", options=(("build_limit_s", 0.001),))
    with pytest.raises(
        CellError, match=r"was not built: builder level \d did not end within engine.build_limit_s=0.001"
    ):
        TENSORRT.build(in_no_time, tmp_path)
    assert [path.suffix for path in (tmp_path / "timing").iterdir() if path.suffix != ".lock"] == [".timing"]
    (tmp_path / "again").mkdir()
    assert TENSORRT.build(plan, tmp_path / "again").proof["timing_cache"] == "warm"

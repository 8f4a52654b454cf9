"""The TensorRT runtime as far as a CPU can hold it: which profile a batch runs in, and why an engine can't load."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.engines.base import Artifact, BuildPlan, Graph, TensorSpec
from harness.engines.tensorrt import TENSORRT_RTX
from harness.engines.tensorrt.context import BoundContext
from harness.engines.tensorrt.flavour import TENSORRT_RTX_FLAVOUR, LocalGpu, local_gpu
from harness.engines.tensorrt.loading import check_fits, check_interface, deserialise
from harness.engines.tensorrt.profiles import choose
from harness.system.errors import CellError
from harness.techniques.levels import BatchProfile

trt = pytest.importorskip("tensorrt_rtx", reason="needs pip install tensorrt-rtx")


SMALL, LARGE = BatchProfile(1, 2, 8), BatchProfile(4, 16, 16)


@pytest.mark.parametrize(("batch_size", "index"), [(1, 0), (3, 0), (4, 0), (8, 0), (9, 1), (16, 1)])
def test_a_batch_runs_in_the_profile_that_holds_it_with_the_nearest_opt(batch_size, index):
    assert choose((SMALL, LARGE), batch_size) == index
    assert choose((LARGE, SMALL), batch_size) == 1 - index


def test_of_equally_near_profiles_the_first_is_taken():
    assert choose((BatchProfile(1, 4, 8), BatchProfile(1, 8, 8)), 6) == 0


class FakeContext:
    """Stands for IExecutionContext, which needs a GPU: takes every call and keeps it, in order."""

    def __init__(self, refuses: str = "") -> None:
        self.calls: list[tuple] = []
        self.refuses = refuses

    def __getattr__(self, name: str):
        return lambda *arguments: self.calls.append((name, *arguments)) or name != self.refuses


def bound_to(context: FakeContext, **changes) -> BoundContext:
    settings = SimpleNamespace(set_execution_context_allocation_strategy=lambda strategy: None)
    engine = SimpleNamespace(create_runtime_config=lambda: settings, create_execution_context=lambda config: context)
    buffer = SimpleNamespace(shape=(16, 4), data_ptr=lambda: 64, numel=lambda: 256)
    bound = BoundContext(TENSORRT_RTX_FLAVOUR, engine, 7, [])
    bound.bind({"x": buffer}, {"y": buffer}, 9, buffer, **changes)
    return bound


def test_a_context_selects_its_profile_on_its_stream_before_it_sets_a_shape():
    context = FakeContext()
    bound_to(context, profile=1)
    assert context.calls[0] == ("set_optimization_profile_async", 1, 7)
    assert context.calls[1] == ("set_input_shape", "x", (9, 4))


def test_a_profile_that_is_not_taken_is_named():
    with pytest.raises(CellError, match="selecting profile 1 failed"):
        bound_to(FakeContext(refuses="set_optimization_profile_async"), profile=1)


def test_an_engine_with_other_profiles_than_planned_is_not_run():
    engine = SimpleNamespace(num_optimization_profiles=1, num_io_tensors=0)
    check_interface(TENSORRT_RTX_FLAVOUR, engine, (), 1)
    with pytest.raises(CellError, match="has 1 optimisation profiles, planned: 2"):
        check_interface(TENSORRT_RTX_FLAVOUR, engine, (), 2)


def artifact(tmp_path: Path, **changes) -> Artifact:
    spec = TensorSpec("x", (-1, 4), "float32")
    graph = Graph(Path("absent.onnx"), "", (spec,), (replace(spec, name="y"),), 1)
    plan = BuildPlan("tensorrt_rtx", graph, BatchProfile(1, 1, 1), device="cuda")
    made = Artifact(plan, tmp_path, "model.engine", trt.__version__, 0.0, {"compute_capability": "8.9"})
    return replace(made, **changes)


def test_an_engine_of_another_version_is_not_loaded(tmp_path):
    with pytest.raises(CellError, match=r"built by tensorrt_rtx 1\.0, but .* is installed: build it again"):
        check_fits(TENSORRT_RTX_FLAVOUR, artifact(tmp_path, engine_version="1.0"), LocalGpu("an L4", (8, 9)))


def test_an_engine_for_another_chip_is_not_loaded(tmp_path):
    with pytest.raises(CellError, match=r"for compute capability 8\.9, but a T4 has 7\.5"):
        check_fits(TENSORRT_RTX_FLAVOUR, artifact(tmp_path), LocalGpu("a T4", (7, 5)))
    check_fits(TENSORRT_RTX_FLAVOUR, artifact(tmp_path), LocalGpu("an L4", (8, 9)))


def test_loading_on_a_cpu_is_refused_before_anything_is_opened(tmp_path):
    with pytest.raises(CellError, match="NVIDIA GPUs only, not on device=cpu"):
        TENSORRT_RTX.load(artifact(tmp_path), "cpu")


@pytest.mark.skipif(local_gpu() is not None, reason="is about a machine without a GPU")
def test_entering_without_a_gpu_says_so(tmp_path):
    with pytest.raises(CellError, match="needs an NVIDIA GPU to run, and none is visible here"):
        TENSORRT_RTX.load(artifact(tmp_path), "cuda").__enter__()


@pytest.mark.skipif(local_gpu() is not None, reason="is about a machine without a GPU")
def test_the_real_runtime_without_a_gpu_gives_tensorrts_own_reason_on_one_line():
    from harness.engines.tensorrt.loading import logger_of

    with logger_of(TENSORRT_RTX_FLAVOUR)[1].watch() as errors, pytest.raises(CellError) as refusal:
        deserialise(TENSORRT_RTX_FLAVOUR, one_layer_engine(), errors)
    assert "CUDA driver version is insufficient" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_the_real_runtime_names_a_damaged_engine():
    with pytest.raises(CellError, match="MALFORMED_ENGINE"):
        deserialise(TENSORRT_RTX_FLAVOUR, b"not an engine" * 100, [])


def one_layer_engine() -> bytes:
    from harness.engines.tensorrt.loading import logger_of

    builder = trt.Builder(logger_of(TENSORRT_RTX_FLAVOUR)[0])
    network = builder.create_network(0)
    layer = network.add_activation(network.add_input("x", trt.float32, (1, 4)), trt.ActivationType.RELU)
    network.mark_output(layer.get_output(0))
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    return bytes(builder.build_serialized_network(network, config))

"""The TensorRT runtime as far as a CPU can hold it: the names it uses exist, and it says clearly why it can't load."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import pytest

import harness.engines.tensorrt as package
from harness.engines.base import Artifact, BatchProfile, BuildPlan, Graph, TensorSpec
from harness.engines.tensorrt import TENSORRT_RTX
from harness.engines.tensorrt.flavour import TENSORRT_RTX_FLAVOUR
from harness.engines.tensorrt.gpu import LocalGpu, local_gpu
from harness.engines.tensorrt.loading import check_fits, deserialise
from harness.errors import CellError

trt = pytest.importorskip("tensorrt_rtx", reason="needs pip install tensorrt-rtx")

# How TensorRT's objects are called throughout this room.
OBJECTS = {
    "trt": trt,
    "builder": trt.Builder,
    "network": trt.INetworkDefinition,
    "config": trt.IBuilderConfig,
    "parser": trt.OnnxParser,
    "profile": trt.IOptimizationProfile,
    "cache": trt.ITimingCache,
    "tensor": trt.ITensor,
    "layer": trt.ILayer,
    "runtime": trt.Runtime,
    "engine": trt.ICudaEngine,
    "context": trt.IExecutionContext,
    "runtime_config": trt.IRuntimeConfig,
}
NOT_TENSORRT = {"stream.py", "buffers.py"}  # `runtime` is CUDA's there, `tensor` torch's
TORCH = {"data_ptr", "numel"}  # asked of buffers in context.py, which are called tensors too


def names_used() -> set[tuple[str, str]]:
    """Every `object.name` in this room's sources, where the object is one of TensorRT's."""
    found = set()
    for path in Path(package.__file__).parent.glob("*.py"):
        if path.name in NOT_TENSORRT:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute):
                owner = getattr(node.value, "attr", getattr(node.value, "id", "")).lstrip("_")
                if owner in OBJECTS and node.attr not in TORCH:
                    found.add((owner, node.attr))
    return found


def test_every_name_asked_of_tensorrt_exists_in_the_installed_package():
    used = names_used()
    assert {("context", "execute_async_v3"), ("runtime", "deserialize_cuda_engine")} <= used
    assert {("engine", "device_memory_size_v2"), ("builder", "build_serialized_network")} <= used
    assert len(used) > 40
    assert [f"{owner}.{name}" for owner, name in sorted(used) if not hasattr(OBJECTS[owner], name)] == []


@pytest.mark.parametrize(
    ("enum", "member"),
    [
        ("ExecutionContextAllocationStrategy", "USER_MANAGED"),
        ("DynamicShapesKernelSpecializationStrategy", "EAGER"),
        ("CudaGraphStrategy", "DISABLED"),
        ("EngineValidity", "INVALID"),
        ("BuilderFlag", "TF32"),
        ("BuilderFlag", "REQUIRE_USER_ALLOCATION"),
        ("TilingOptimizationLevel", "FULL"),
        ("ProfilingVerbosity", "DETAILED"),
        ("MemoryPoolType", "WORKSPACE"),
    ],
)
def test_every_enum_member_in_use_exists(enum, member):
    assert member in getattr(trt, enum).__members__


def test_every_cuda_function_in_use_exists():
    from cuda.bindings import runtime

    source = Path(package.__file__).with_name("stream.py").read_text()
    used = {
        node.attr
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute) and node.attr.startswith("cuda")
    }
    assert len(used) >= 8
    places = (runtime, runtime.cudaGraphNodeType, runtime.cudaStreamCaptureMode, runtime.cudaError_t)
    assert [name for name in used if not any(hasattr(place, name) for place in places)] == []


def artifact(tmp_path: Path, **changes) -> Artifact:
    spec = TensorSpec("x", (-1, 4), "float32")
    graph = Graph(Path("absent.onnx"), "", (spec,), (replace(spec, name="y"),), 1)
    plan = BuildPlan("tensorrt_rtx", graph, BatchProfile(1, 1, 1), device="cuda")
    made = Artifact(plan, tmp_path, "model.engine", trt.__version__, 0.0, {"compute_capability": "8.9"})
    return replace(made, **changes)


def test_an_engine_of_another_version_is_not_loaded(tmp_path):
    with pytest.raises(CellError, match=r"built by tensorrt_rtx 1\.0, installed is .*: build it again"):
        check_fits(TENSORRT_RTX_FLAVOUR, artifact(tmp_path, engine_version="1.0"), LocalGpu("an L4", (8, 9)))


def test_an_engine_for_another_chip_is_not_loaded(tmp_path):
    with pytest.raises(CellError, match=r"for compute capability 8\.9, a T4 has 7\.5"):
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
    from harness.engines.tensorrt.messages import logger_of

    with logger_of(TENSORRT_RTX_FLAVOUR)[1].watch() as errors, pytest.raises(CellError) as refusal:
        deserialise(TENSORRT_RTX_FLAVOUR, one_layer_engine(), errors)
    assert "CUDA driver version is insufficient" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_the_real_runtime_names_a_damaged_engine():
    with pytest.raises(CellError, match="MALFORMED_ENGINE"):
        deserialise(TENSORRT_RTX_FLAVOUR, b"not an engine" * 100, [])


def one_layer_engine() -> bytes:
    from harness.engines.tensorrt.messages import logger_of

    builder = trt.Builder(logger_of(TENSORRT_RTX_FLAVOUR)[0])
    network = builder.create_network(0)
    layer = network.add_activation(network.add_input("x", trt.float32, (1, 4)), trt.ActivationType.RELU)
    network.mark_output(layer.get_output(0))
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    return bytes(builder.build_serialized_network(network, config))

"""Every name that this room asks of TensorRT exists: in the TensorRT-RTX that is installed, and in plain TensorRT.

Plain TensorRT can't be installed without NVIDIA's own index, so two files list the names of the classes in use here: as
10.13 has them (from the type stubs `tensorrt-stubs` 10.13.0.35.1, which stubgen read off it), and as 10.6.0 has them
(by `dir` of the package itself).
"""

from __future__ import annotations

import ast
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

import harness.engines.tensorrt as package
from harness.engines.tensorrt.flavour import missing_features
from harness.engines.tensorrt.profiles import TILINGS

trt = pytest.importorskip("tensorrt_rtx", reason="needs pip install tensorrt-rtx")

RELEASES = {
    release: {
        name: set(names.split())
        for name, names in json.loads(Path(__file__).with_name(f"tensorrt_{release}.json").read_text()).items()
    }
    for release in ("10_6", "10_13")
}

# How TensorRT's objects are called throughout this room.
OBJECTS = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "config": "IBuilderConfig",
    "parser": "OnnxParser",
    "profile": "IOptimizationProfile",
    "cache": "ITimingCache",
    "tensor": "ITensor",
    "layer": "ILayer",
    "runtime": "Runtime",
    "engine": "ICudaEngine",
    "context": "IExecutionContext",
    "inspector": "EngineInspector",
    "runtime_config": "IRuntimeConfig",
}
# What only newer releases have; `flavour.py` knows it, and nothing asks for it before it was looked up there.
SINCE_10_8 = {"IBuilderConfig.tiling_optimization_level", "TilingOptimizationLevel"} | {
    f"TilingOptimizationLevel.{name.upper()}" for name in TILINGS
}
NOT_TENSORRT = {"cuda.py"}  # `runtime` is CUDA's there, `tensor` torch's
TORCH = {"data_ptr", "numel"}  # asked of buffers in context.py, which are called tensors too

# All that only TensorRT-RTX has; the code asks for it under a flag of the flavour.
RTX_ONLY = {
    "BuilderFlag.REQUIRE_USER_ALLOCATION",
    "ComputeCapability",
    "CudaGraphStrategy",
    "CudaGraphStrategy.DISABLED",
    "DynamicShapesKernelSpecializationStrategy",
    "DynamicShapesKernelSpecializationStrategy.EAGER",
    "EngineInvalidityDiagnostics",
    "EngineValidity",
    "EngineValidity.INVALID",
    "IBuilderConfig.num_compute_capabilities",
    "IBuilderConfig.set_compute_capability",
    "IExecutionContext.is_stream_capturable",
    "IRuntimeConfig.cuda_graph_strategy",
    "IRuntimeConfig.dynamic_shapes_kernel_specialization_strategy",
    "Runtime.get_engine_validity",
}


def names_used() -> set[str]:
    """Every `Class.name` (or name of the module) in this room's sources, where the class is one of TensorRT's."""
    found = set()
    for path in Path(package.__file__).parent.glob("*.py"):
        if path.name in NOT_TENSORRT:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Attribute):
                continue
            owner = getattr(node.value, "attr", getattr(node.value, "id", "")).lstrip("_")
            above = getattr(node.value, "value", None)
            if owner in OBJECTS and node.attr not in TORCH:
                found.add(f"{OBJECTS[owner]}.{node.attr}")
            elif _is_module(node.value):
                found.add(node.attr)
            elif above is not None and _is_module(above) and not node.attr.startswith("__"):  # every class has __init__
                found.add(f"{owner}.{node.attr}")
    return found | {f"TilingOptimizationLevel.{name.upper()}" for name in TILINGS}  # by getattr, from the option


def _is_module(node: ast.AST) -> bool:
    """Whether this is `trt` or `flavour.module()`."""
    if isinstance(node, ast.Call):
        return getattr(node.func, "attr", "") == "module"
    return getattr(node, "id", "") == "trt"


def has(release: str, name: str) -> bool:
    """Whether plain TensorRT of that release has it."""
    owner, _, attribute = name.partition(".")
    names = RELEASES[release]
    return attribute in names.get(owner, ()) if attribute else name in names["module"]


def test_the_names_are_found_where_they_are_used():
    used = names_used()
    assert {"IExecutionContext.execute_async_v3", "Runtime.deserialize_cuda_engine", "ITimingCache.combine"} <= used
    assert {"BuilderFlag.ERROR_ON_TIMING_CACHE_MISS", "LayerInformationFormat.JSON", "nptype", "Builder"} <= used
    assert {"MemoryPoolType.WORKSPACE", "EngineInspector.get_engine_information"} <= used
    assert len(used) > 60


def test_every_name_exists_in_the_installed_tensorrt_rtx():
    def exists(name: str) -> bool:
        owner, _, attribute = name.partition(".")
        return hasattr(trt, owner) and (not attribute or hasattr(getattr(trt, owner), attribute))

    assert [name for name in sorted(names_used()) if not exists(name)] == []


def test_every_name_exists_in_plain_tensorrt_but_those_that_only_rtx_has():
    assert {name for name in names_used() if not has("10_13", name)} == RTX_ONLY


def test_10_6_lacks_what_the_table_of_versions_says_and_nothing_else_in_use():
    rtx = RTX_ONLY | {"ICudaEngine.create_runtime_config", "IRuntimeConfig.set_execution_context_allocation_strategy"}
    assert {name for name in names_used() if not has("10_6", name)} - rtx == SINCE_10_8
    assert [one.name for one in missing_features(SimpleNamespace())] == ["tiling"]
    assert missing_features(SimpleNamespace(TilingOptimizationLevel=object)) == ()


def test_every_cuda_function_in_use_exists():
    from cuda.bindings import runtime

    source = Path(package.__file__).with_name("cuda.py").read_text()
    used = {
        node.attr
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute) and node.attr.startswith("cuda")
    }
    assert len(used) >= 8
    places = (runtime, runtime.cudaGraphNodeType, runtime.cudaStreamCaptureMode, runtime.cudaError_t)
    assert [name for name in used if not any(hasattr(place, name) for place in places)] == []

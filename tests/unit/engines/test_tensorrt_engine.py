"""What the TensorRT engines say about this machine and about impossible plans, before any work."""

from __future__ import annotations

import subprocess
import sys
import types
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.config import HarnessConfig, check_ranges, engine_ranges
from harness.engines.base import BuildPlan, Graph
from harness.engines.tensorrt import TENSORRT, TENSORRT_RTX
from harness.engines.tensorrt.flavour import TENSORRT_FLAVOUR, LocalGpu, local_gpu
from harness.engines.tensorrt.loading import Messages, tail
from harness.engines.tensorrt.network import _channels_last
from harness.system.errors import UserError
from harness.techniques.levels import BatchProfile

GRAPH = Graph(Path("absent.onnx"), "", (), (), 0)
PLAN = BuildPlan("tensorrt_rtx", GRAPH, BatchProfile(1, 1, 1), device="cuda", compute_capability=(8, 9))


@pytest.fixture
def rtx() -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs pip install tensorrt-rtx")


def use_gpu(monkeypatch, gpu: LocalGpu | None) -> None:
    monkeypatch.setattr("harness.engines.tensorrt.engine.local_gpu", lambda: gpu)


def test_importing_the_engines_loads_no_gpu_package():
    code = "import sys, harness.engines.tensorrt; print([m for m in sys.modules if m in %r])"
    heavy = ["torch", "tensorrt", "tensorrt_rtx", "cuda.core", "cuda.bindings", "pynvml", "onnx"]
    found = subprocess.run([sys.executable, "-c", code % heavy], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_a_missing_package_is_one_line_that_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)  # Python's own way to make an import fail
    use_gpu(monkeypatch, None)
    assert "needs an NVIDIA GPU" in TENSORRT.availability("cpu").run, "without one, installing it is in vain"
    use_gpu(monkeypatch, LocalGpu("an L4", (8, 9)))
    answer = TENSORRT.availability("cuda")
    assert answer.build == answer.run
    assert answer.run.startswith("tensorrt is not installed") and "\n" not in answer.run
    assert "pip install" in answer.run and "docs.nvidia.com" in answer.run
    with pytest.raises(UserError, match="not installed"):
        TENSORRT.check(replace(PLAN, engine="tensorrt"))


def test_a_stub_without_the_library_counts_as_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", types.ModuleType("tensorrt"))
    assert "empty stub" in TENSORRT_FLAVOUR.missing()


def test_rtx_builds_without_a_gpu_but_does_not_run(rtx, monkeypatch):
    use_gpu(monkeypatch, None)
    answer = TENSORRT_RTX.availability("cuda")
    assert answer.build is None
    assert "needs an NVIDIA GPU to run" in answer.run


def test_rtx_runs_on_ada_not_on_hopper_and_never_on_a_cpu(rtx, monkeypatch):
    use_gpu(monkeypatch, LocalGpu("an L4", (8, 9)))
    assert TENSORRT_RTX.availability("cuda").run is None
    assert "device=cpu" in TENSORRT_RTX.availability("cpu").run
    use_gpu(monkeypatch, LocalGpu("an H100", (9, 0)))
    reason = TENSORRT_RTX.availability("cuda").run
    assert "an H100 (compute capability 9.0)" in reason and "engine=tensorrt" in reason


@pytest.mark.parametrize("chip", [(9, 0), (6, 1), (10, 0)])
def test_a_chip_that_rtx_does_not_know_is_refused_with_the_ones_it_knows(rtx, chip):
    with pytest.raises(UserError, match=r"7\.5, .*8\.9, 12\.0"):
        TENSORRT_RTX.check(replace(PLAN, compute_capability=chip))


def test_without_a_gpu_rtx_asks_for_a_chip(rtx, monkeypatch):
    use_gpu(monkeypatch, None)
    with pytest.raises(UserError, match=r"set engine\.compute_capability to one of"):
        TENSORRT_RTX.check(replace(PLAN, compute_capability=None))


def test_without_a_choice_rtx_builds_for_the_gpu_that_is_here(rtx, monkeypatch):
    use_gpu(monkeypatch, LocalGpu("a T4", (7, 5)))
    assert TENSORRT_RTX.target(replace(PLAN, compute_capability=None)) == (7, 5)


def test_fp32_for_turing_is_left_to_the_compiler_to_refuse(rtx):
    TENSORRT_RTX.check(replace(PLAN, compute_capability=(7, 5)))


def test_plain_tensorrt_builds_for_no_other_chip_than_the_one_here(monkeypatch):
    library = types.ModuleType("tensorrt")
    library.Logger = object
    monkeypatch.setitem(sys.modules, "tensorrt", library)
    use_gpu(monkeypatch, LocalGpu("a T4", (7, 5)))
    with pytest.raises(UserError, match=r"only for the GPU that is here \(a T4, 7\.5\), not for 8\.9"):
        TENSORRT.check(PLAN)
    TENSORRT.check(replace(PLAN, compute_capability=(7, 5)))
    use_gpu(monkeypatch, None)
    with pytest.raises(UserError, match="needs an NVIDIA GPU to build"):
        TENSORRT.check(PLAN)


def test_decreasing_batch_sizes_are_refused(rtx):
    with pytest.raises(UserError, match="must not decrease"):
        TENSORRT_RTX.check(replace(PLAN, batch=BatchProfile(4, 2, 8)))


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("builder_level", 6, "builder_level=6: must be from 0 to 5"),
        ("builder_level", -1, "builder_level=-1: must be from 0 to 5"),
        ("tiling", "most", "tiling=most: choose one of none, fast, moderate, full"),
    ],
)
def test_an_option_out_of_the_declared_range_is_refused_in_one_line(name, value, said):
    config = replace(HarnessConfig().engine, **{name: value})
    with pytest.raises(UserError, match=said) as refusal:
        check_ranges("engine", config, engine_ranges())
    assert "\n" not in str(refusal.value)


def test_an_option_of_the_other_flavour_is_refused():
    with pytest.raises(UserError, match="TensorRT-RTX has no timing cache"):
        TENSORRT_RTX.check(replace(PLAN, options=(("timing_cache", "pinned"),)))


DYNAMIC = replace(PLAN, batch=BatchProfile(1, 4, 8))


@pytest.mark.parametrize(
    ("profiles", "said"),
    [
        ([(1, 2, 4), (6, 8, 8)], "1..8 exactly, and 5 is in none"),
        ([(1, 2, 4)], "1..8 exactly, and 5 is in none"),
        ([(1, 2, 4), (4, 8, 16)], "1..8 exactly, and 9 is outside"),
    ],
)
def test_profiles_that_leave_a_batch_size_out_or_go_beyond_are_refused_with_that_size(profiles, said):
    with pytest.raises(UserError, match=said):
        TENSORRT_RTX.check(replace(DYNAMIC, profiles=tuple(BatchProfile(*one) for one in profiles)))


def test_profiles_may_touch_and_overlap(rtx):
    for profiles in ([(1, 2, 4), (5, 8, 8)], [(1, 2, 4), (2, 8, 8)]):
        TENSORRT_RTX.check(replace(DYNAMIC, profiles=tuple(BatchProfile(*one) for one in profiles)))


def test_a_pinned_timing_cache_that_is_not_there_is_refused_before_any_work(monkeypatch, tmp_path):
    library = types.ModuleType("tensorrt")
    library.Logger, library.__version__ = object, "10.13"
    monkeypatch.setitem(sys.modules, "tensorrt", library)
    use_gpu(monkeypatch, LocalGpu("an L4", (8, 9)))
    pinned = replace(PLAN, options=(("timing_cache", "pinned"),), timing_dir=str(tmp_path))
    with pytest.raises(UserError, match=r"there is no .*an-L4_sm8\.9_10\.13\.timing; build once without it"):
        TENSORRT.check(pinned)
    (tmp_path / "an-L4_sm8.9_10.13.timing").write_bytes(b"timings")
    TENSORRT.check(pinned)


def test_a_hidden_gpu_is_no_gpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert local_gpu() is None


@pytest.mark.parametrize(("visible", "asked"), [("1", 1), ("GPU-6d1c,0", "GPU-6d1c"), ("MIG-4f2a", "MIG-4f2a")])
def test_the_gpu_is_the_one_that_cuda_is_told_to_show(monkeypatch, visible, asked):
    nvml = types.ModuleType("pynvml")
    nvml.NVMLError = type("NVMLError", (Exception,), {})
    nvml.nvmlInit = nvml.nvmlShutdown = lambda: None
    nvml.nvmlDeviceGetHandleByIndex = nvml.nvmlDeviceGetHandleByUUID = lambda which: which
    nvml.nvmlDeviceGetCudaComputeCapability = lambda handle: (9, 0)
    nvml.nvmlDeviceGetName = str
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert local_gpu() == LocalGpu(str(asked), (9, 0))


def test_messages_keep_errors_of_the_time_they_were_watched_and_lose_nvidias_file_names():
    messages = Messages()
    messages.add("ERROR", "before")
    with messages.watch() as seen:
        messages.add("INFO", "chatter")
        messages.add(
            "ERROR", "IBuilder::build: Error Code 1: Myelin ([pass.cpp:337: check] no such op. In f at /_src/g.cpp:1)"
        )
        messages.add("ERROR", "[checkMacros.cpp::catchCudaError::250] Error Code 1: Cuda Runtime (noise)")
    messages.add("ERROR", "after")
    assert tail(seen) == "no such op"
    assert tail([]) == "it gave no reason"


def tensor(kind: str, *shape: int) -> SimpleNamespace:
    return SimpleNamespace(shape=shape, dtype=SimpleNamespace(name=kind), allowed_formats="any")


def test_what_passes_between_half_precision_stages_lies_in_memory_as_the_kernels_read_it(monkeypatch):
    formats = SimpleNamespace(TensorFormat=SimpleNamespace(HWC=8, HWC8=2))
    images, features = tensor("FLOAT", -1, 3, 224, 224), tensor("HALF", -1, 512, 28, 28)
    odd, logits, wide = tensor("HALF", -1, 12, 7, 7), tensor("HALF", -1, 1000), tensor("FLOAT", -1, 512, 28, 28)
    inputs, outputs = [images], [features, odd, logits, wide]
    network = SimpleNamespace(num_inputs=1, get_input=inputs.__getitem__, num_outputs=4, get_output=outputs.__getitem__)

    def formats_with(**options) -> list[object]:
        for one in (*inputs, *outputs):
            one.allowed_formats = "any"
        _channels_last(formats, network, replace(PLAN, options=tuple(options.items())))
        return [one.allowed_formats for one in (*inputs, *outputs)]

    assert formats_with() == ["any", 1 << 2, "any", "any", "any"]
    assert formats_with(channels_last=True) == [1 << 8, 1 << 2, "any", "any", "any"]

"""The timing cache: shared, merged, never half written, never from elsewhere; pinned, where a miss is a failure."""

from __future__ import annotations

import threading
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.engines.base import BuildPlan, Graph
from harness.engines.tensorrt import TENSORRT_RTX, builder, timing_cache
from harness.engines.tensorrt.flavour import TENSORRT_FLAVOUR, TENSORRT_RTX_FLAVOUR, LocalGpu
from harness.system.errors import CellError
from harness.techniques.levels import BatchProfile

trt = pytest.importorskip("tensorrt_rtx", reason="needs pip install tensorrt-rtx")

L4, T4 = LocalGpu("NVIDIA L4", (8, 9)), LocalGpu("Tesla T4", (7, 5))
# TensorRT-RTX still takes every call of a timing cache, though it times nothing: the bindings are the real ones
FLAVOUR = replace(TENSORRT_RTX_FLAVOUR, timing_cache=True)
PLAN = BuildPlan("tensorrt", Graph(Path("absent.onnx"), "", (), (), 0), BatchProfile(1, 1, 1), device="cuda")


class FakeCache:
    """Stands for the ITimingCache of plain TensorRT, which needs a GPU: `header:entry,entry`."""

    def __init__(self, saved: bytes) -> None:
        self.header, _, entries = (saved or b"here:").decode().partition(":")
        self.entries = set(filter(None, entries.split(",")))

    def combine(self, other: FakeCache, ignore_mismatch: bool) -> bool:
        if other.header != self.header and not ignore_mismatch:
            return False
        self.entries |= other.entries
        return True

    def serialize(self) -> bytes:
        return f"{self.header}:{','.join(sorted(self.entries))}".encode()


class FakeConfig:
    """Stands for IBuilderConfig: takes caches of the machine that is `here` only."""

    def __init__(self) -> None:
        self.cache: FakeCache | None = None
        self.flags: list[object] = []

    def create_timing_cache(self, saved: bytes) -> FakeCache | None:
        return None if saved.startswith(b"damaged") else FakeCache(saved)

    def set_timing_cache(self, cache: FakeCache, ignore_mismatch: bool) -> bool:
        if cache.header != "here" and not ignore_mismatch:
            return False
        self.cache = cache
        return True

    def get_timing_cache(self) -> FakeCache | None:
        return self.cache

    def set_flag(self, flag: object) -> None:
        self.flags.append(flag)

    def time(self, *kernels: str) -> None:
        assert self.cache is not None
        self.cache.entries.update(kernels)


def attached(path: Path, pinned: bool = False) -> tuple[FakeConfig, str]:
    config = FakeConfig()
    return config, timing_cache.attach(FLAVOUR, config, path, pinned)


@pytest.fixture
def file(tmp_path) -> Path:
    return tmp_path / "timing" / "gpu.timing"


def test_what_one_build_timed_the_next_one_has(file):
    config, state = attached(file)
    assert state == "new"
    config.time("conv", "relu")
    timing_cache.keep(config, file)
    config, state = attached(file)
    assert (state, config.cache.entries) == ("warm", {"conv", "relu"})


def test_two_builds_at_the_same_time_keep_what_both_timed(file):
    one, other = attached(file)[0], attached(file)[0]
    one.time("conv")
    other.time("gemm")
    timing_cache.keep(one, file)
    timing_cache.keep(other, file)
    assert attached(file)[0].cache.entries == {"conv", "gemm"}


def test_many_builds_at_once_lose_nothing_and_leave_nothing_half_written(file):
    def build(number: int) -> None:
        config = attached(file)[0]
        config.time(f"kernel{number}")
        timing_cache.keep(config, file)

    threads = [threading.Thread(target=build, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert attached(file)[0].cache.entries == {f"kernel{number}" for number in range(16)}
    assert {path.name for path in file.parent.iterdir()} <= {file.name, f"{file.name}.lock"}


@pytest.mark.parametrize("saved", [b"elsewhere:conv", b"damaged"])
def test_a_foreign_or_damaged_cache_is_started_anew_and_then_replaced(file, saved):
    file.parent.mkdir()
    file.write_bytes(saved)
    config, state = attached(file)
    assert (state, config.cache.entries) == ("new", set())
    config.time("gemm")
    timing_cache.keep(config, file)
    assert file.read_bytes() == b"here:gemm"


def test_a_pinned_cache_makes_a_miss_an_error(file):
    config, _ = attached(file)
    config.time("conv")
    timing_cache.keep(config, file)
    assert config.flags == []
    config, state = attached(file, pinned=True)
    assert (state, config.cache.entries) == ("pinned", {"conv"})
    assert config.flags == [trt.BuilderFlag.ERROR_ON_TIMING_CACHE_MISS]


@pytest.mark.parametrize(
    ("saved", "said"), [(None, "there is no"), (b"damaged", "rejects"), (b"elsewhere:conv", "rejects")]
)
def test_a_pinned_cache_that_is_absent_damaged_or_foreign_fails_in_one_line(file, saved, said):
    if saved is not None:
        file.parent.mkdir()
        file.write_bytes(saved)
    with pytest.raises(CellError, match=said) as refusal:
        attached(file, pinned=True)
    assert "\n" not in str(refusal.value) and "timing_cache_pinned" in str(refusal.value)


def test_a_file_is_named_by_gpu_compute_capability_and_version_and_there_is_none_without_them(monkeypatch):
    plan = replace(PLAN, timing_dir="/cache/timing")
    path = timing_cache.path_of(FLAVOUR, plan, L4)
    assert path == Path(f"/cache/timing/NVIDIA-L4_sm8.9_{trt.__version__}.timing")
    assert timing_cache.path_of(FLAVOUR, plan, T4) != path
    monkeypatch.setattr(type(FLAVOUR), "module", lambda self: SimpleNamespace(__version__="11.4"))
    assert timing_cache.path_of(TENSORRT_FLAVOUR, plan, L4).name == "NVIDIA-L4_sm8.9_11.4.timing"
    assert timing_cache.path_of(FLAVOUR, PLAN, L4) is None  # timing_cache=false
    assert timing_cache.path_of(FLAVOUR, plan, None) is None
    assert timing_cache.path_of(TENSORRT_RTX_FLAVOUR, plan, L4) is None


@pytest.fixture
def relu_plan(tmp_path) -> BuildPlan:
    import onnx
    from onnx import TensorProto, helper

    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", values[:1], values[1:])
    path = tmp_path / "relu.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), str(path))
    return replace(PLAN, graph=Graph(path, "", (), (), 1), timing_dir=str(tmp_path / "timing"))


def build(plan: BuildPlan, folder: Path):
    folder.mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TensorRT-RTX says that its timing cache does nothing
        return builder.build(FLAVOUR, plan, (8, 9), folder)


def test_a_real_build_leaves_its_cache_takes_it_the_next_time_and_only_reads_a_pinned_one(
    relu_plan, tmp_path, monkeypatch
):
    monkeypatch.setattr("harness.engines.tensorrt.builder.local_gpu", lambda: L4)
    file = timing_cache.path_of(FLAVOUR, relu_plan, L4)
    assert build(relu_plan, tmp_path / "one").proof["timing_cache"] == "new"
    assert file.stat().st_size > 0
    assert build(relu_plan, tmp_path / "two").proof["timing_cache"] == "warm"
    written = file.stat().st_mtime_ns
    pinned = replace(relu_plan, options=(("timing_cache", "pinned"),))
    assert build(pinned, tmp_path / "three").proof["timing_cache"] == "pinned"
    assert file.stat().st_mtime_ns == written
    file.unlink()
    with pytest.raises(CellError, match="there is no"):
        build(pinned, tmp_path / "four")


def test_a_build_that_fails_with_a_pinned_cache_tries_no_other_level_and_says_what_may_be_missing(
    relu_plan, tmp_path, monkeypatch
):
    """A real miss needs plain TensorRT and a GPU: here the builder refuses, as it does there."""
    monkeypatch.setattr("harness.engines.tensorrt.builder.local_gpu", lambda: L4)
    build(relu_plan, tmp_path / "one")
    tried = []
    monkeypatch.setattr(
        trt.Builder, "build_serialized_network", lambda self, network, config: tried.append(config) or None
    )
    pinned = replace(relu_plan, fusion="max", options=(("timing_cache", "pinned"),))
    steps = replace(FLAVOUR, levels=TENSORRT_FLAVOUR.levels)
    with warnings.catch_warnings(), pytest.raises(CellError, match="lacks a kernel of this network, build once") as why:
        warnings.simplefilter("ignore")
        builder.build(steps, pinned, (8, 9), tmp_path)
    assert len(tried) == 1 and "\n" not in str(why.value)


def test_rtx_builds_without_one(relu_plan, tmp_path):
    plan = replace(relu_plan, engine="tensorrt_rtx", compute_capability=(8, 9))
    (tmp_path / "out").mkdir()
    assert TENSORRT_RTX.build(plan, tmp_path / "out").proof["timing_cache"] == "none"
    assert not (tmp_path / "timing").exists()

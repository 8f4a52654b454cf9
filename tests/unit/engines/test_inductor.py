"""Inductor behind the contract, on the CPU: what it compiles computes the network, and its cache is our artifact."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.engines import get
from harness.engines.build import fetch_or_build
from harness.engines.inductor import compiler
from harness.engines.inductor.compiler import OPTIONS, _options, separate_sizes
from harness.engines.profiling import SPANNING, UNKNOWN, order_of
from harness.measure.progress import Silent
from harness.sweep.build import build_quartet
from harness.sweep.plan import plan_quartet
from harness.system.errors import CellError, UserError
from harness.techniques.arch.recipe import rebuild
from harness.techniques.levels import BatchProfile

pytestmark = [
    pytest.mark.minutes,
    pytest.mark.skipif(shutil.which("g++") is None, reason="Inductor on a CPU needs a C++ compiler"),
]


@pytest.fixture(scope="module")
def cell(planned, cache):
    """Return a function: cell("hw=fusion") -> that cell as Inductor compiled it, without its reference."""

    def make(*overrides):
        plan = planned(*overrides, engine="inductor")
        alone = replace(plan, cells=tuple(cell for cell in plan.cells if cell.role == "hw"))
        return build_quartet(alone, cache, Silent())["hw"]

    return make


@pytest.fixture(scope="module")
def compiled(cell):
    """Return the cell that Inductor compiled at its most."""
    return cell("hw=fusion")


def test_a_compiled_network_computes_what_eager_computes(compiled, images):
    inputs = images(2)
    with get("inductor").load(compiled.artifacts[0], "cpu") as executable:
        executable.write_inputs({"input": inputs})
        executable.poison_outputs()
        executable.enqueue(2)
        executable.synchronize()
        found = executable.outputs(2)["logits"]
    with torch.inference_mode():
        expected = rebuild(compiled.recipe)(torch.from_numpy(inputs)).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * abs(expected).max())


def test_the_compilers_cache_is_kept_and_found_again(compiled, cache):
    artifact = compiled.artifacts[0]
    assert (artifact.path / artifact.main_file).stat().st_size > 10_000
    assert artifact.proof["generated_kernels"] > 10
    assert fetch_or_build(artifact.plan, cache).hit


def test_each_level_of_fusion_asks_the_compiler_for_something_else(compiled):
    plan = compiled.artifacts[0].plan
    levels = [_options(replace(plan, fusion=level)) for level in OPTIONS]
    assert all(a != b for a in levels for b in levels if a is not b)
    tuned = _options(replace(plan, options=(*plan.options, ("max_autotune", True))))
    assert tuned["max_autotune"] is True
    assert "max_autotune" not in _options(replace(plan, fusion="off", options=(("max_autotune", True),)))


def test_a_build_for_another_chip_is_refused(configured):
    config = configured("hw=fusion", "engine.compute_capability=8.9")
    with pytest.raises(UserError, match="inductor builds for the machine it runs on"):
        plan_quartet(config, "inductor", "cpu")


def test_a_worker_that_starts_from_the_cache_compiles_nothing(compiled):
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    with get("inductor").load(compiled.artifacts[0], "cpu") as executable:
        executable.enqueue(2)
        executable.synchronize()
        assert executable.degraded == compiled.artifacts[0].degraded == ()
    counts = torch._dynamo.utils.counters["inductor"]
    assert (counts["fxgraph_cache_hit"], counts["fxgraph_cache_miss"]) == (1, 0)


def test_a_worker_that_has_to_compile_says_so(compiled, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(torch.compiler, "load_cache_artifacts", lambda _: None)
    torch.compiler.reset()
    with get("inductor").load(compiled.artifacts[0], "cpu") as executable:
        (reason,) = executable.degraded
    assert reason == "compiled anew while loading (1 graph): the cache of the build did not fit"


def test_its_profile_tells_the_parts_of_the_network_by_the_kernels_it_wrote_down(compiled):
    with get("inductor").load(compiled.artifacts[0], "cpu") as executable:
        profile = get("inductor").profile(executable, compiled.artifacts[0], "cpu", 2)
    order = sorted((part for part in profile.parts_ms if part != UNKNOWN), key=order_of)
    assert order[0] == "stem" and order[-2:] == ["head", SPANNING]  # a normalisation goes with what pools before it
    assert {"dense block 1", "transition 1", "dense block 4"} < set(order)
    assert profile.parts_ms.get(UNKNOWN, 0.0) < 0.1 * profile.work_ms
    assert profile.work_ms <= profile.batch_ms * 1.05


@pytest.mark.parametrize(
    ("profile", "sizes"),
    [((4, 4, 4), ()), ((2, 4, 8), ()), ((1, 4, 8), (1,)), ((1, 1, 8), (8,))],
    ids=["static", "never one", "one beside the usual", "usually one"],
)
def test_a_single_sample_and_more_are_compiled_apart(profile, sizes):
    assert separate_sizes(BatchProfile(*profile)) == sizes


def test_a_worker_compiles_nothing_for_any_batch_of_a_dynamic_artifact(cell, images, tmp_path, monkeypatch):
    from torch._dynamo.utils import counters

    monkeypatch.syspath_prepend(Path(__file__).parents[2])
    network = ("model=foreign_networks:paired", "model.image_size=64", "model.num_classes=10")
    dynamic = cell(*network, "hw=dynamic_batching")
    assert dynamic.artifacts[0].plan.batch == BatchProfile(1, 2, 4)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch._dynamo.reset()
    counters.clear()
    inputs = images(4)
    with torch.inference_mode():
        expected = rebuild(dynamic.recipe)(torch.from_numpy(inputs)).numpy()
    with get("inductor").load(dynamic.artifacts[0], "cpu") as executable:
        executable.write_inputs({"input": inputs})
        for size in (2, 1, 4, 3):
            executable.enqueue(size)
            found = executable.outputs(size)["logits"]
            np.testing.assert_allclose(found, expected[:size], rtol=0, atol=1e-5 * abs(expected).max())
    assert counters["stats"]["unique_graphs"] == 2
    assert counters["inductor"]["fxgraph_cache_miss"] == 0


@pytest.mark.parametrize(("device", "tuned", "waits"), [("cuda", True, 1), ("cuda", False, 0), ("cpu", True, 0)])
def test_a_build_on_a_gpu_that_times_templates_times_them_alone(compiled, monkeypatch, tmp_path, device, tuned, waits):
    """What is compiled stays on the CPU here: only who waits for a GPU is asked."""
    entered = []

    @contextmanager
    def alone():
        entered.append(True)
        yield

    class Stopped(Exception):
        """Before anything is compiled."""

    def executable(*arguments):
        raise Stopped

    monkeypatch.setattr(compiler, "kernels_timed_alone", alone)
    monkeypatch.setattr(compiler, "ModuleExecutable", executable)
    plan = replace(compiled.artifacts[0].plan, device=device, options=(("max_autotune", tuned),))
    with pytest.raises(CellError, match="Stopped"):
        compiler.build(plan, tmp_path, "torch")
    assert len(entered) == waits

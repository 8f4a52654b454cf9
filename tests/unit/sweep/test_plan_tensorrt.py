"""TensorRT's own options on their way from the config into a plan, and which of them are refused before any work."""

from __future__ import annotations

import sys
import types
from dataclasses import replace
from pathlib import Path

import pytest

from harness.engines.base import Graph
from harness.engines.tensorrt.flavour import LocalGpu
from harness.measure.cell import CellPlan
from harness.sweep.command_line import compose_jobs
from harness.sweep.plan import build_plan
from harness.sweep.refusals import check_engine_options, plan_sweep
from harness.system.errors import UserError
from harness.techniques.levels import BatchProfile, off

GRAPH = Graph(Path(), "", (), (), 0)
PROFILES = "engine.profiles=[[1,1,2],[2,4,4]]"


@pytest.fixture
def on_gpu(monkeypatch):
    """Pretend that plain TensorRT and a GPU are here: plans are made, nothing is built."""
    library = types.ModuleType("tensorrt")
    library.Logger, library.__version__, library.TilingOptimizationLevel = object, "10.13", object
    monkeypatch.setitem(sys.modules, "tensorrt", library)
    monkeypatch.setattr("harness.engines.tensorrt.engine.local_gpu", lambda: LocalGpu("an L4", (8, 9)))


@pytest.fixture
def built_plans(planned):
    """Return a function: built_plans("hw=fusion") -> what the engine is asked for, by role."""

    def make(*overrides, engine="tensorrt"):
        plan = planned(*overrides, engine=engine)
        return {cell.role: build_plan(plan, cell, GRAPH) for cell in plan.cells}

    return make


def refusal(function, *arguments, **named) -> str:
    with pytest.raises(UserError) as refused:
        function(*arguments, **named)
    text = str(refused.value)
    assert len(text.splitlines()) == 1, text
    return text


def test_timings_lie_beside_the_engines_and_are_shared_by_default(on_gpu, built_plans, tmp_path):
    plans = built_plans("hw=fp16", "reference=engine", f"cache.dir={tmp_path}")
    for plan in plans.values():
        assert plan.timing_dir == str(tmp_path / "timing")
        assert ("timing_cache", "shared") in plan.options


def test_switched_off_there_are_none_and_only_cells_on_tensorrt_have_any(on_gpu, built_plans):
    assert built_plans("hw=fp16", "engine.timing_cache=false")["hw"].timing_dir == ""
    plans = built_plans("hw=fp16", "engine.workspace_mb=64")
    assert (plans["baseline"].engine, plans["baseline"].timing_dir) == ("eager", "")
    assert dict(plans["hw"].options)["workspace_mb"] == 64
    assert not {"workspace_mb", "timing_cache"} & set(dict(plans["baseline"].options))


def test_a_replicated_build_has_timings_of_its_own(on_gpu, planned):
    plan = planned("hw=fp16")
    folders = set()
    for replica in (0, 1, 2):
        levels = replace(off(2), replica=replica)
        folders.add(build_plan(plan, CellPlan("hw", plan.config.arch, "tensorrt", levels), GRAPH).timing_dir)
    assert len(folders) == 3


def test_rtx_ignores_the_default_and_refuses_a_pinned_one(built_plans):
    pytest.importorskip("tensorrt_rtx", reason="needs pip install tensorrt-rtx")
    chip = ("hw=fp16", "engine.compute_capability=8.9")
    plan = built_plans(*chip, engine="tensorrt_rtx")["hw"]
    assert (plan.timing_dir, dict(plan.options).get("timing_cache")) == ("", None)
    text = refusal(built_plans, *chip, "engine.timing_cache_pinned=true", engine="tensorrt_rtx")
    assert "TensorRT-RTX has no timing cache" in text


def test_profiles_are_for_the_cells_with_a_dynamic_batch(on_gpu, built_plans):
    plans = built_plans("hw=dynamic_batching", "reference=engine", PROFILES)
    assert plans["hw"].profiles == (BatchProfile(1, 1, 2), BatchProfile(2, 4, 4))
    assert plans["baseline"].profiles == ()


def test_profiles_that_do_not_hold_the_dynamic_batch_are_refused(on_gpu, built_plans):
    text = refusal(built_plans, "hw=dynamic_batching", PROFILES, "hw.dynamic_batching.max_batch_size=5")
    assert "1..5 exactly, and 5 is in none" in text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["engine.profiles=[[1,4]]"], "each must be [min,opt,max]"),
        (["engine.profiles=[[4,2,8]]"], "each must be [min,opt,max]"),
        (["engine.profiles=[[0,2,8]]"], "each must be [min,opt,max]"),
        (["engine.workspace_mb=0"], "engine.workspace_mb=0: must be at least 1"),
        (["engine.timing_cache_pinned=true", "engine.timing_cache=false"], "drop one of the two"),
        (["engine.builder_level=7"], "from 0 to 5"),
        (["engine.tiling=much"], "none, fast, moderate, full"),
        (["engine.builder_level=3", "hw=fusion", "reference=engine"], "leave one of the two out"),
        (["engine.tiling=none", "hw=compiled"], "leave one out"),
    ],
)
def test_a_wrong_option_is_one_line(on_gpu, planned, options, said):
    assert said in refusal(planned, "hw=fp16", *options, engine="tensorrt")


def test_a_profile_with_a_size_that_is_no_number_says_which(configured):
    assert "Value 'x' (str) is incompatible with type hint 'int'" in refusal(configured, "engine.profiles=[[1,2,x]]")


def test_fusion_may_be_held_below_its_most_where_it_is_not_compared_with_its_least(on_gpu, built_plans):
    plan = built_plans("hw=fusion", "reference=eager", "engine.builder_level=3", "engine.tiling=fast")["hw"]
    assert (dict(plan.options)["builder_level"], dict(plan.options)["tiling"]) == (3, "fast")


@pytest.mark.parametrize(
    ("engine", "options", "said"),
    [
        ("onnxruntime", ["hw=fp16", "engine.builder_level=3"], "engine.builder_level is for tensorrt or tensorrt_rtx"),
        ("onnxruntime", ["hw=fusion", "engine.max_autotune=true"], "engine.max_autotune is for inductor"),
        ("onnxruntime", ["hw=fp16", "engine.timing_cache_pinned=true"], "this sweep runs on eager, onnxruntime"),
        ("tensorrt_rtx", ["hw=fp16", PROFILES], "engine.profiles needs hw=dynamic_batching"),
    ],
)
def test_an_option_that_no_job_uses_is_refused_rather_than_ignored(engine, options, said, tmp_path):
    if engine == "tensorrt_rtx":
        pytest.importorskip("tensorrt_rtx", reason="needs pip install tensorrt-rtx")
        options = [*options, "engine.build_only=true", "engine.compute_capability=8.9"]
    jobs = compose_jobs(
        [
            "model=densenet_tiny",
            "batch_size=2",
            "engine.device=cpu",
            f"engine={engine}",
            f"cache.dir={tmp_path}",
            *options,
        ]
    )
    assert said in refusal(plan_sweep, jobs)


def test_an_option_that_one_engine_of_a_sweep_uses_rides_along_on_the_others(on_gpu, planned):
    plans = [planned("hw=fp16", "engine.tiling=fast", engine=name) for name in ("tensorrt", "inductor")]
    check_engine_options(plans)
    assert "engine.tiling is for tensorrt or tensorrt_rtx" in refusal(check_engine_options, plans[1:])


def test_each_cell_of_an_identity_control_is_tuned_on_its_own(on_gpu, built_plans):
    plans = built_plans("arch=identity", "hw=identity", "reference=engine")
    assert len({plan.timing_dir for plan in plans.values()}) == 4

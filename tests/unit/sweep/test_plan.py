"""Config to plan: four cells that differ by the two stacks alone, on the engines that `reference` says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.engines.base import Graph
from harness.engines.build import artifact_key
from harness.sweep.command_line import compose_jobs
from harness.sweep.plan import build_plan, builds_of, check_boundary, check_config, plan_quartet
from harness.system.errors import UserError
from harness.techniques.hw.fp16 import FP16
from harness.techniques.levels import FP32, BatchProfile, off

ROLES = ("baseline", "arch", "hw", "combined")


def by_role(plan):
    return {cell.role: cell for cell in plan.cells}


def refusal(function, *arguments) -> str:
    with pytest.raises(UserError) as refused:
        function(*arguments)
    text = str(refused.value)
    assert 1 <= len(text.splitlines()) <= 2, text
    return text


def test_a_quartet_is_a_two_by_two_design_of_its_stacks(planned):
    plan = planned("arch=[low_rank,grouped]", "hw=[fusion,fp16]", "reference=engine")
    cells = by_role(plan)
    assert tuple(cells) == ROLES
    assert cells["baseline"].arch == cells["hw"].arch != cells["arch"].arch == cells["combined"].arch
    assert cells["baseline"].levels == cells["arch"].levels != cells["hw"].levels == cells["combined"].levels
    assert (plan.arch, plan.hw) == (("grouped", "low_rank"), ("fp16", "fusion"))
    assert plan.label == "grouped+low_rank x fp16+fusion"


def test_under_the_eager_reference_only_the_hw_cells_run_on_the_engine(planned):
    plan = planned("arch=grouped", "hw=fp16", "reference=eager")
    assert [cell.engine for cell in plan.cells] == ["eager", "eager", "onnxruntime", "onnxruntime"]
    assert plan.engine == "onnxruntime"


def test_under_the_engine_reference_all_four_cells_run_on_the_engine(planned):
    plan = planned("arch=grouped", "hw=fp16", "reference=engine")
    assert [cell.engine for cell in plan.cells] == ["onnxruntime"] * 4


@pytest.mark.parametrize("reference", ["eager", "engine"])
@pytest.mark.parametrize(
    ("hw", "changed"),
    [
        ("fp16", {"precision": FP16}),
        ("fusion", {"fusion": "max", "cuda_graph": True}),
        ("dynamic_batching", {"batch": BatchProfile(1, 2, 4)}),
        ("[fp16,fusion]", {"precision": FP16, "fusion": "max", "cuda_graph": True}),
    ],
)
def test_a_hw_technique_changes_its_own_level_and_off_is_off(planned, reference, hw, changed):
    cells = by_role(planned("arch=grouped", f"hw={hw}", f"reference={reference}"))
    for role in ("baseline", "arch"):
        levels = cells[role].levels
        assert levels == off(2)
        assert (levels.precision, levels.fusion, levels.cuda_graph, levels.native_io) == (FP32, "off", False, False)
        assert levels.batch == BatchProfile(2, 2, 2)
    for role in ("hw", "combined"):
        assert cells[role].levels == replace(off(2), **changed)


def test_compiled_is_the_engine_at_its_default_settings_in_fp32(planned):
    cells = by_role(planned("hw=compiled"))
    assert cells["hw"].levels == replace(off(2), fusion="default")
    assert (cells["baseline"].engine, cells["hw"].engine) == ("eager", "onnxruntime")


def test_fp16_inputs_and_outputs_are_an_option_of_their_own(planned):
    assert by_role(planned("hw=fp16", "hw.fp16.io=fp16"))["hw"].levels.native_io
    assert not by_role(planned("hw=fp16"))["hw"].levels.native_io


def test_the_dynamic_profile_comes_from_the_option_then_the_preset_then_the_batch_size(planned):
    def profile(*overrides):
        return by_role(planned("hw=dynamic_batching", *overrides))["hw"].levels.batch

    assert profile("batch_size=6") == BatchProfile(1, 6, 12)
    assert profile("batch=b4", "batch_size=4") == BatchProfile(1, 4, 8)
    assert profile("batch=b4", "batch_size=4", "hw.dynamic_batching.max_batch_size=5") == BatchProfile(1, 4, 5)


@pytest.mark.parametrize(("reference", "engine"), [("eager", "eager"), ("engine", "onnxruntime")])
def test_the_identity_control_is_four_builds_of_the_reference(planned, reference, engine):
    plan = planned("arch=identity", "hw=identity", f"reference={reference}")
    assert [cell.role for cell in plan.cells] == list(ROLES)
    assert {cell.engine for cell in plan.cells} == {engine}
    graph = Graph(plan.config.cache.dir, "0" * 64, (), (), 1)
    keys = {artifact_key(build_plan(plan, cell, graph)) for cell in plan.cells}
    assert len(keys) == 4  # none is handed another one's artifact
    assert len({replace(cell.levels, instance="") for cell in plan.cells}) == 1


def test_without_an_arch_or_a_hw_technique_there_are_two_cells_without_both_one(planned):
    assert [cell.role for cell in planned("hw=fusion").cells] == ["baseline", "hw"]
    assert [cell.role for cell in planned("arch=grouped").cells] == ["baseline", "arch"]
    alone = planned()
    assert [cell.role for cell in alone.cells] == ["baseline"]
    assert (alone.label, alone.cells[0].engine) == ("baseline", "eager")
    assert planned("reference=engine").cells[0].engine == "onnxruntime"


def test_the_primary_boundary_follows_the_device_unless_named(configured):
    config = configured("arch=grouped")
    assert plan_quartet(config, "eager", "cpu").primary == "wall"
    assert plan_quartet(config, "eager", "cuda").primary == "device"
    assert plan_quartet(configured("protocol.primary=end_to_end"), "eager", "cuda").primary == "end_to_end"


def test_a_boundary_that_the_device_does_not_have_is_refused(configured):
    assert "only wall" in refusal(check_boundary, configured("protocol.primary=device"), "cpu")
    check_boundary(configured("protocol.primary=end_to_end"), "cuda")


@pytest.mark.parametrize(
    ("overrides", "engine", "says"),
    [
        (("hw=[compiled,fp16]",), "onnxruntime", "compiled can't be combined"),
        (("hw=[identity,fusion]",), "onnxruntime", "identity can't be combined"),
        (("arch=[identity,grouped]", "hw=fp16"), "onnxruntime", "identity can't be combined"),
        (("hw=compiled", "reference=engine"), "onnxruntime", "use reference=eager"),
        (("hw=compiled",), "eager", "eager compiles nothing"),
        (("hw=fusion",), "eager", "eager fuses nothing"),
        (("hw=dynamic_batching",), "eager", "no static shapes"),
        (("hw=fp16", "hw.fp16.io=bf16"), "onnxruntime", "choose fp32 or fp16"),
        (("hw=dynamic_batching", "hw.dynamic_batching.max_batch_size=1"), "onnxruntime", "1 <= min <= opt <= max"),
        (
            ("hw=dynamic_batching", "hw.dynamic_batching.opt_batch_size=1", "hw.dynamic_batching.max_batch_size=1"),
            "onnxruntime",
            "outside the dynamic profile 1..1",
        ),
        (
            ("hw=dynamic_batching", "batch_size=1", "hw.dynamic_batching.max_batch_size=1"),
            "onnxruntime",
            "raise max_batch_size",
        ),
        (("hw=fp16", "engine.compute_capability=8.9"), "onnxruntime", "engine=tensorrt_rtx"),
        (("hw=fp16", "engine.compute_capability=8"), "tensorrt_rtx", "major.minor"),
        (("hw=fp16",), "tensorrtx", "choose one of"),
        (("hw=[fp16,bf16]",), "eager", "choose one of the two"),
        (("hw=bf16",), "onnxruntime", "engine onnxruntime has no bf16 (it has no bf16 kernel"),
        (("hw=bf16", "engine.compute_capability=7.5"), "tensorrt_rtx", "7.5 has no bf16: 8.0 has it"),
    ],
)
def test_what_can_not_be_combined_is_refused_before_any_work(configured, overrides, engine, says):
    assert says in refusal(plan_quartet, configured(*overrides), engine, "cpu")


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("batch_size=0", "batch_size=0: must be at least 1"),
        ("model.num_classes=1", "at least 2"),
        ("engine.threads=-1", "engine.threads=-1: must be at least 1"),
        ("protocol.max_blocks=3", "protocol.max_blocks=3: must be at least 10"),
        ("protocol.builds=0", "protocol.builds=0: must be at least 1"),
        ("protocol.energy_s=-1", "protocol.energy_s=-1.0: must be a number of seconds, 0 for none"),
        ("protocol.energy_s=inf", "protocol.energy_s=inf: must be a number of seconds"),
        ("protocol.slice_s=0", "must be a positive number"),
        ("protocol.budget_s=inf", "must be a positive number"),
        ("protocol.half_width=nan", "must be a positive number"),
        ("protocol.level=1.0", "between 0 and 1"),
        ("protocol.margin=0", "between 0 and 1"),
        ("protocol.primary=gpu", "device, wall, end_to_end"),
        ("reference=onnxruntime", "eager, engine"),
        ("engine.device=tpu", "auto, cpu, cuda"),
    ],
)
def test_a_value_out_of_range_is_refused_with_the_range(configured, override, says):
    assert says in refusal(check_config, configured(override))


def test_what_reaches_the_engine_is_the_cell_and_the_config(planned):
    plan = planned("arch=grouped", "hw=[fp16,fusion]", "engine.threads=1", "precision.tf32=true")
    graph = Graph(plan.config.cache.dir, "0" * 64, (), (), 1)
    combined, baseline = plan.cells[3], plan.cells[0]
    built = build_plan(plan, combined, graph, recipe="{}", stage="whole")
    assert (built.engine, built.precision, built.fusion, built.tf32) == ("onnxruntime", FP16, "max", True)
    assert not built.cuda_graph  # there is no GPU to capture on
    assert (built.recipe, built.stage) == ("", "")  # only engines that run the module itself need it
    assert dict(built.options) == {"threads": 1}
    reference = build_plan(plan, baseline, graph, recipe="{}", stage="whole")
    assert (reference.recipe, reference.stage, reference.tf32) == ("{}", "whole", True)


@pytest.mark.parametrize(
    ("engine", "device", "asked", "builds"),
    [
        ("tensorrt", "cuda", (), 3),  # a build times kernels there
        ("inductor", "cuda", ("hw=fusion", "engine.max_autotune=true"), 3),
        ("inductor", "cuda", (), 1),  # and here it times none
        ("inductor", "cpu", ("hw=fusion", "engine.max_autotune=true"), 1),
        ("tensorrt_rtx", "cuda", (), 1),  # builds without a GPU
        ("onnxruntime", "cuda", (), 1),
        ("eager", "cuda", (), 1),
        ("tensorrt", "cuda", ("protocol.builds=1",), 1),
        ("onnxruntime", "cuda", ("protocol.builds=2",), 2),
        ("tensorrt", "cuda", ("engine.build_only=true",), 3),  # what a later sweep measures
    ],
)
def test_an_engine_whose_builds_differ_is_built_three_times_unless_told_otherwise(
    configured, engine, device, asked, builds
):
    assert builds_of(configured("hw=fp16", *asked), engine, device) == builds


def test_an_identity_control_can_be_one_of_accelerated_cells(planned):
    over = ("arch=identity", "hw=identity", "hw.identity.over=[fusion,fp16]", "reference=engine")
    plan = planned(*over)
    alike = planned("hw=[fp16,fusion]").cells[-1].levels
    assert {replace(cell.levels, instance="") for cell in plan.cells} == {alike}
    assert len({cell.levels.instance for cell in plan.cells}) == 4


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("hw.identity.over=[fp61]", "reference=engine"), r"fp61 is not one of .*fp16"),
        (("hw.identity.over=[fp16]",), "add reference=engine"),
    ],
)
def test_a_control_over_what_is_not_there_is_refused(configured, options, says):
    with pytest.raises(UserError, match=says):
        plan_quartet(configured("arch=identity", "hw=identity", *options), "onnxruntime", "cpu")


def test_the_preset_of_accelerated_controls_has_fp16_and_fusion_in_all_four_cells():
    jobs = compose_jobs(["experiment=aa_accelerated", "model=densenet_tiny"])
    for job in jobs:
        plan = plan_quartet(job.config, "onnxruntime", "cpu")
        assert (plan.arch, plan.hw, len(plan.cells)) == (("identity",), ("identity",), 4)
        assert {(cell.levels.precision, cell.levels.fusion, cell.engine) for cell in plan.cells} == {
            (FP16, "max", "onnxruntime")
        }

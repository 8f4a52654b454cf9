"""Eight bits on every network of conf/model: ONNX Runtime runs them, and TensorRT-RTX builds what is placed for it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.engines.base import load_graph
from harness.measure.progress import Silent
from harness.measure.runner import Runner
from harness.measure.verify import compare
from harness.sweep.build import build_quartet
from harness.sweep.command_line import compose_jobs
from harness.sweep.plan import plan_quartet
from harness.techniques.hw.int8 import placement

pytestmark = pytest.mark.minutes  # exports and calibrations at full size
# sides that the networks take; those of conf/model
SIDES = {
    "densenet_tiny": 64, "densenet121": 96, "resnet50": 96, "mobilenet_v3_large": 96, "efficientnet_b0": 96,
    "convnext_tiny": 96, "vit_b_16": 224,
}  # fmt: skip
# residual sums of the graph that TensorRT adds before it rounds
RESIDUAL = {"resnet50": 16, "mobilenet_v3_large": 10, "efficientnet_b0": 9, "convnext_tiny": 3}


def cell_of(cache, model: str, engine: str, *more: str):
    options = [f"model={model}", f"model.image_size={SIDES[model]}", "batch_size=2", "hw.int8.images=4", *more]
    (job,) = compose_jobs(options)
    plan = plan_quartet(job.config, engine, "cpu")
    alone = replace(plan, cells=tuple(cell for cell in plan.cells if cell.role == "hw"))
    return build_quartet(alone, cache, Silent())["hw"]


def test_every_network_of_the_configs_is_here(repository):
    assert set(SIDES) == {path.stem for path in (repository / "conf/model").glob("*.yaml")}


@pytest.mark.parametrize("model", SIDES)
def test_onnxruntime_runs_all_but_the_first_and_the_last_layer_in_eight_bits(model, cache):
    from harness.engines.onnxruntime import ONNXRUNTIME

    cell = cell_of(cache, model, "onnxruntime", "hw=int8")
    (artifact,) = cell.artifacts
    assert artifact.degraded == ()
    computed, weighted = artifact.proof["layers_in_precision"], artifact.proof["layers_weighted"]
    assert computed >= weighted - 2
    with ONNXRUNTIME.load(artifact, "cpu") as executable:
        found = compare(
            Runner((executable,), cell.router, 2).verify(cell.expected.inputs), cell.expected, artifact.plan.precision
        )
    assert found.max_relative > 1e-4


@pytest.mark.parametrize("techniques", ["int8", "[fp16,int8]"])
@pytest.mark.parametrize("model", SIDES)
def test_tensorrt_rtx_builds_what_is_placed_for_tensorrt(model, techniques, cache):
    pytest.importorskip("tensorrt_rtx", reason="needs pip install tensorrt-rtx")
    chip = ("engine.compute_capability=8.9", "engine.build_only=true")
    (artifact,) = cell_of(cache, model, "tensorrt_rtx", f"hw={techniques}", *chip).artifacts
    assert artifact.proof["layers_in_precision"] >= 11
    assert not [reason for reason in artifact.degraded if "int8" in reason]
    if techniques == "int8":
        assert len(placement(load_graph(artifact.plan.graph.path)).residual) == RESIDUAL.get(model, 0)

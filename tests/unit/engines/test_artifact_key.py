"""An artifact's key is everything that changes a build, and nothing else."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest

from harness.engines.base import BuildPlan, Graph, TensorSpec
from harness.engines.build import artifact_key
from harness.engines.onnxruntime import ONNXRUNTIME
from harness.techniques.hw.fp16 import FP16
from harness.techniques.levels import BatchProfile

GRAPH = Graph(
    Path("/somewhere/model.onnx"),
    "5" * 64,
    (TensorSpec("input", (-1, 3, 64, 64), "float32"),),
    (TensorSpec("logits", (-1, 10), "float32"),),
    100,
)
PLAN = BuildPlan("onnxruntime", GRAPH, BatchProfile(2, 2, 2), options=(("threads", 2),))

# for every field of BuildPlan a value that would change what is built
CHANGES = {
    "engine": "inductor",
    "graph": replace(GRAPH, sha256="6" * 64),
    "batch": BatchProfile(1, 2, 2),
    "precision": FP16,
    "fusion": "max",
    "cuda_graph": True,
    "tf32": True,
    "device": "cuda",
    "compute_capability": (8, 9),
    "instance": "hw-identity",
    "recipe": "{}",
    "stage": "stage1",
    "options": (("threads", 1),),
    "profiles": (BatchProfile(2, 2, 2), BatchProfile(1, 1, 1)),
}


@pytest.mark.parametrize("field", [field.name for field in fields(BuildPlan) if field.name != "timing_dir"])
def test_every_field_of_a_plan_that_changes_what_is_built_is_in_its_key(field):
    changed = replace(PLAN, **{field: CHANGES[field]})
    assert getattr(changed, field) != getattr(PLAN, field)
    assert artifact_key(changed) != artifact_key(PLAN)


@pytest.mark.parametrize("batch", [(1, 4, 8), (1, 4, 9), (1, 5, 8), (2, 4, 8)])
def test_every_bound_of_the_batch_is_in_the_key(batch):
    others = {(1, 4, 8), (1, 4, 9), (1, 5, 8), (2, 4, 8)} - {batch}
    keys = {artifact_key(replace(PLAN, batch=BatchProfile(*other))) for other in others}
    assert artifact_key(replace(PLAN, batch=BatchProfile(*batch))) not in keys


def test_where_a_timing_cache_lies_is_not_in_the_key():
    assert artifact_key(replace(PLAN, timing_dir="/elsewhere")) == artifact_key(PLAN)


@pytest.mark.parametrize("fact", ["driver", "name", "compute_capability"])
def test_another_driver_or_gpu_has_another_key_where_the_gpu_counts(monkeypatch, fact):
    chip = {"name": "an L4", "compute_capability": "8.9", "driver": "580.1"}
    on_gpu = replace(PLAN, device="cuda")
    keys = {"cuda": set(), "cpu": set()}
    for found in (chip, {**chip, fact: "another"}):
        monkeypatch.setattr("harness.engines.build.gpu", lambda found=found: found)
        keys["cuda"].add(artifact_key(on_gpu))
        keys["cpu"].add(artifact_key(PLAN))
    assert (len(keys["cuda"]), len(keys["cpu"])) == (2, 1)


def test_where_the_graph_lies_is_not_in_the_key():
    moved = replace(PLAN, graph=replace(GRAPH, path=Path("/elsewhere/other.onnx")))
    assert artifact_key(moved) == artifact_key(PLAN)


def test_another_version_of_the_engine_has_another_key(monkeypatch):
    before = artifact_key(PLAN)
    monkeypatch.setattr(type(ONNXRUNTIME), "version", lambda self: "0.0.1")
    assert artifact_key(PLAN) != before

"""All five techniques of DenseNet121 become real TensorRT-RTX engines, through the path that a user takes."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

from harness.measure.cell import Cell
from harness.measure.progress import Silent
from harness.sweep.build import build_quartet
from harness.sweep.command_line import compose_jobs
from harness.sweep.plan import plan_quartet
from harness.system.cache import Cache
from harness.system.errors import CellError

pytestmark = [
    pytest.mark.minutes,  # exports at full size
    pytest.mark.skipif(
        importlib.util.find_spec("tensorrt_rtx") is None,
        reason="tensorrt_rtx is not installed: pip install tensorrt-rtx",
    ),
]
TECHNIQUES = ("early_exit", "reduced_growth", "low_rank", "grouped", "pruned")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """One cache for all tests here: every architecture is exported once."""
    return Cache(tmp_path_factory.mktemp("engines"))


def combined_cell(cache: Cache, technique: str, hw: str, capability: str, *more: str) -> Cell:
    """Build the combined cell of a technique's quartet, and no other, without running it."""
    chip = (f"engine.compute_capability={capability}", "engine.build_only=true", "engine=tensorrt_rtx")
    (job,) = compose_jobs([f"arch={technique}", f"hw={hw}", "batch_size=4", *chip, *more])
    plan = plan_quartet(job.config, "tensorrt_rtx", "cpu")
    alone = replace(plan, cells=tuple(cell for cell in plan.cells if cell.role == "combined"))
    return build_quartet(alone, cache, Silent())["combined"]


@pytest.mark.parametrize("technique", TECHNIQUES)
@pytest.mark.parametrize(("hw", "capability"), [("[dynamic_batching]", "8.9"), ("[fp16,dynamic_batching]", "8.9")])
def test_every_technique_builds_for_ada_with_a_dynamic_batch(
    cache: Cache, technique: str, hw: str, capability: str
) -> None:
    cell = combined_cell(cache, technique, hw, capability)
    assert len(cell.artifacts) == (2 if technique == "early_exit" else 1)
    for artifact in cell.artifacts:
        assert (artifact.path / artifact.main_file).stat().st_size > 1_000_000
        assert not artifact.plan.batch.is_static
        half = artifact.proof["compute_layers_fp16"]
        full = artifact.proof["compute_layers_fp32"]
        assert (half == 0 and full > 0) if "fp16" not in hw else (full == 0 and half > 0)


@pytest.mark.parametrize("technique", TECHNIQUES)
def test_every_technique_builds_in_fp16_for_turing(cache: Cache, technique: str) -> None:
    cell = combined_cell(cache, technique, "[fp16,dynamic_batching]", "7.5")
    for artifact in cell.artifacts:
        assert artifact.proof["compute_capability"] == "7.5"
        assert artifact.proof["compute_layers_fp32"] == 0


def test_fp32_for_turing_is_refused_in_one_clear_line(cache: Cache) -> None:
    with pytest.raises(CellError, match=r"7\.5 in fp32.*FP32 GEMM is not supported") as refusal:
        combined_cell(cache, "grouped", "dynamic_batching", "7.5")
    assert "\n" not in str(refusal.value)


def test_a_second_build_of_the_same_quartet_comes_from_the_cache(cache: Cache) -> None:
    combined_cell(cache, "grouped", "[fp16,dynamic_batching]", "8.9")
    again = combined_cell(cache, "grouped", "[fp16,dynamic_batching]", "8.9")
    assert again.cache_hit
    other = combined_cell(cache, "grouped", "[fp16,dynamic_batching]", "8.9", "hw.dynamic_batching.max_batch_size=9")
    assert not other.cache_hit


def test_the_engine_file_is_where_the_cache_says(cache: Cache) -> None:
    cell = combined_cell(cache, "grouped", "[fp16,dynamic_batching]", "8.9")
    assert Path(cell.artifacts[0].path).is_relative_to(cache.root)

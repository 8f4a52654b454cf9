"""Names and what is absent, on cells with their engines really built."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.measure.ceilings import Ceilings
from harness.results.roofline import cell_metrics, count, machine_metrics
from harness.techniques.arch.stages import ONE_STAGE


def test_a_machine_says_what_was_measured_and_no_more():
    assert machine_metrics(None) == {}
    assert machine_metrics(Ceilings(10.0, 0.2)) == {"machine/copy_gb_s": 10.0, "machine/matmul_fp32_tflops": 0.2}
    assert machine_metrics(Ceilings(10.0, 0.2, 2.0))["machine/matmul_fp16_tflops"] == 2.0
    assert machine_metrics(Ceilings(10.0, 0.2, None, 2.1, 4.0)) == {
        "machine/copy_gb_s": 10.0, "machine/matmul_fp32_tflops": 0.2, "machine/matmul_bf16_tflops": 2.1,
        "machine/matmul_int8_tops": 4.0,
    }  # fmt: skip


def test_a_cell_that_was_only_built_has_its_work_and_no_share(grouped_fusion):
    _, cells = grouped_fusion
    cell = cells["combined"]
    found = cell_metrics(cell.artifacts, cell.router, 2)
    assert set(found) == {"roofline/gflop_per_image", "roofline/mb_per_image"}
    assert found["roofline/gflop_per_image"] == pytest.approx(2 * cell.accounting.gmacs, rel=1e-12)


def test_a_measured_cell_has_its_share_of_the_nearer_ceiling(grouped_fusion):
    _, cells = grouped_fusion
    work = count(cells["hw"].artifacts[0].plan.graph.path)
    moved = work.activation_bytes + work.weight_bytes / 2
    slow_memory = cell_metrics(cells["hw"].artifacts, ONE_STAGE, 2, 100.0, Ceilings(1e-3, 1.0))
    slow_product = cell_metrics(cells["hw"].artifacts, ONE_STAGE, 2, 100.0, Ceilings(1e6, 1e-6))
    assert slow_memory["roofline/share"] == pytest.approx(moved / 1e6 * 100.0)
    assert slow_product["roofline/share"] == pytest.approx(work.flop / 1e6 * 100.0)
    assert (slow_memory["roofline/memory_bound"], slow_product["roofline/memory_bound"]) == (1.0, 0.0)


def test_a_graph_that_is_gone_or_damaged_costs_no_measurement(grouped_fusion, tmp_path):
    artifact = grouped_fusion[1]["hw"].artifacts[0]
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(b"\xff" * 100)
    for path in (Path("nowhere.onnx"), damaged):
        graph = replace(artifact.plan.graph, path=path)
        assert cell_metrics([replace(artifact, plan=replace(artifact.plan, graph=graph))], ONE_STAGE, 2) == {}

"""The row of a quartet under load says all that its cells' builds, their loading and the measurement have to say."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from harness.measure.progress import Silent
from harness.under_load.analysis import analyse_load
from harness.under_load.measure import measure_under_load
from harness.under_load.record import record_load
from harness.under_load.variants import prepare_variants

SHORT = (
    "hw=fp16", "scenario=offline", "scenario.min_duration_s=0.1", "scenario.min_queries=8", "scenario.repeats=1",
    "scenario.percentile=50", "scenario.static_batch_sizes=[2]", "scenario.sample_count=4", "reference=engine",
)  # fmt: skip


@pytest.fixture(scope="module")
def measured(planned, cache):
    """Return the plan of two cells and what they served; fp16 is emulated on a CPU, which its build says."""
    pytest.importorskip("mlperf_loadgen")
    plan = planned(*SHORT)
    return plan, measure_under_load(prepare_variants(plan, cache, Silent()), plan.config, plan.device, Silent())


def row_of(measured, folder, **changes):
    plan, measurement = measured
    measurement = replace(measurement, **changes)
    return record_load(plan, measurement, analyse_load(measurement, plan.config), folder, "")


def test_a_degraded_cell_is_named_with_its_reason_whether_its_build_or_its_loading_found_it(measured, tmp_path):
    loaded = dict(measured[1].loaded)
    loaded["baseline"] = replace(loaded["baseline"], degraded=("no CUDA graph",))
    reasons = row_of(measured, tmp_path, loaded=loaded).tags["degraded"].split("; ")
    assert reasons[0] == "baseline: no CUDA graph"
    assert reasons[1].startswith("hw: fp16 emulated: ")
    assert len(reasons) == 2


def test_what_the_measurement_notes_stands_beside_what_the_record_notes(measured, tmp_path, monkeypatch):
    from harness.record import quartet

    monkeypatch.setattr(quartet, "_note", lambda measurement: "3 test images could not be read")
    note = row_of(measured, tmp_path, note="a chip that was slowing down").tags["note"]
    assert note == "a chip that was slowing down; 3 test images could not be read"


def test_its_details_hold_the_builds_and_the_service(measured, tmp_path):
    row = row_of(measured, tmp_path)
    details = json.loads(row.artifacts["interaction.json"].read_text())
    assert set(details["cells"]) == set(details["serving"]) == set(details["loaded"]) == {"baseline", "hw"}
    assert row.metrics["hw/fidelity/cosine"] == pytest.approx(details["fidelity"]["hw"]["cosine"])

"""The row of a quartet under load says all that its cells' builds, their loading and the measurement have to say."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import replace
from statistics import median

import numpy as np
import pandas
import pytest
from PIL import Image

from harness.config import DataConfig, ModelConfig
from harness.measure.progress import Silent
from harness.networks.data.labelled import labelled
from harness.report.choose import candidates_of
from harness.report.quartets import quartets
from harness.results.metrics import find_metric
from harness.results.record import params
from harness.serving.requests import variants
from harness.serving.serving_cell import ServingCell
from harness.stats.roles import ROLES
from harness.sweep.job import row_of
from harness.sweep.scenarios import scenario_of
from harness.sweep.scenarios.under_load import Offline

SHORT = (
    "hw=fp16", "scenario=offline", "scenario.min_duration_s=0.1", "scenario.min_queries=8", "scenario.repeats=1",
    "scenario.percentile=50", "scenario.static_batch_sizes=[2]", "scenario.sample_count=4", "reference=engine",
)  # fmt: skip


@pytest.fixture(scope="module")
def measured(built):
    """Return the plan of two cells and what they served; fp16 is emulated on a CPU, which its build says."""
    pytest.importorskip("mlperf_loadgen")
    plan, quartets = built(*SHORT)
    return plan, Offline().measure(plan, quartets, Silent())


def row_from(measured, folder, **changes):
    plan, measurement = measured
    measurement = replace(measurement, **changes)
    return row_of(plan, [], measurement, folder, "")


def found_on_loading(measured, degraded):
    """Return the cells as if loading them had shown these reasons, by role."""
    cells = measured[1].cells
    return cells | {
        role: replace(cells[role], loaded=replace(cells[role].loaded, degraded=reasons))
        for role, reasons in degraded.items()
    }


def test_a_degraded_cell_is_named_with_its_reason_whether_its_build_or_its_loading_found_it(measured, tmp_path):
    cells = found_on_loading(measured, {"baseline": ("no CUDA graph",)})
    reasons = row_from(measured, tmp_path, cells=cells).tags["degraded"].split("; ")
    assert reasons[0] == "baseline: no CUDA graph"
    assert reasons[1].startswith("hw: fp16 emulated: ")
    assert len(reasons) == 2


def test_a_batch_size_that_can_not_be_captured_degrades_its_cell(built):
    variant = variants(*built(*SHORT))["baseline"][0]
    spec = variant.cell
    asked = replace(spec.artifacts[0], plan=replace(spec.artifacts[0].plan, cuda_graph=True))
    with ExitStack() as stack:
        cell = ServingCell(spec, stack, True)
        cell.load(None)
        cell._cell = replace(spec, artifacts=(asked,))  # as on a GPU, whose engine then says no
        served = cell.ready(variant.plan)
    assert served.captured_sizes == ()
    assert len(served.degraded) == 1 and served.degraded[0].startswith("no CUDA graph at batch size 2: ")


def slowed(cell, times):
    """Return the cell as if each batch under load had taken so many times what it takes alone."""
    alone_s = {size: median(ms) / 1e3 for size, ms in cell.load.service_ms.items()}

    def result(one):
        taken_s = np.array([times * alone_s[size] for size in one.batches.executed])
        return replace(one, batches=replace(one.batches, completed_s=one.batches.started_s + taken_s))

    return replace(cell, repeats=tuple(replace(one, results=tuple(map(result, one.results))) for one in cell.repeats))


def test_a_cell_that_the_server_holds_up_has_a_note(measured, tmp_path):
    cells = {
        role: slowed(cell, times) for times, (role, cell) in zip((1.05, 1.2), measured[1].cells.items(), strict=True)
    }
    row = row_from(measured, tmp_path, cells=cells)
    assert (row.metrics["baseline/load/slowdown"], row.metrics["hw/load/slowdown"]) == pytest.approx((1.05, 1.2))
    assert "batches take longer under load than alone: hw 1.20x" in row.tags["note"]


def test_the_report_tells_a_degraded_cell_from_a_clean_one(measured, tmp_path):
    plan, measurement = measured
    clean = found_on_loading(measured, dict.fromkeys(measurement.cells, ()))
    assert degraded_in_report(plan, row_from(measured, tmp_path, cells=clean)) == {"baseline": False, "fp16": True}


def test_the_report_counts_a_cell_as_degraded_that_only_its_loading_found_so(measured, tmp_path):
    plan, _ = measured
    cells = found_on_loading(measured, {"baseline": ("no CUDA graph",)})
    assert degraded_in_report(plan, row_from(measured, tmp_path, cells=cells)) == {"baseline": True, "fp16": True}


def degraded_in_report(plan, row):
    """Return by label whether the report counts a cell as degraded, from the row as the store would hold it."""
    values = {"run_id": "1", "run_name": plan.label, "status": "FINISHED", **row.metrics, **row.tags}
    values |= {name: str(value) for name, value in params(plan).items()}
    candidates = candidates_of(quartets(pandas.DataFrame([values])))
    return {one.label: one.degraded for one in candidates}


def test_images_that_could_not_be_read_are_told_of_beside_what_the_measurement_notes(
    measured, with_a_corrupt_image, tmp_path
):
    cells = {
        role: replace(one, variant=replace(one.variant, cell=replace(one.variant.cell, labelled=with_a_corrupt_image)))
        for role, one in ((role, slowed(one, 1.0)) for role, one in measured[1].cells.items())
    }
    row = row_from(measured, tmp_path, cells=cells, note="a chip that was slowing down")
    skipped = "left out, unreadable or without a label: 1 test image (skipped_images.txt)"
    assert row.tags["note"] == f"a chip that was slowing down; {skipped}"
    assert row.artifacts["skipped_images.txt"].read_text().startswith("cat/1.png: ")


@pytest.fixture
def with_a_corrupt_image(cache, tmp_path):
    """Return labelled images, one of which can't be read."""
    root = tmp_path / "pets"
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (40, 40), (80 * number, 0, 0)).save(root / name / f"{number}.png")
    (root / "cat" / "1.png").write_bytes(b"this is no image")
    data = DataConfig(name="image_folder", path=str(root), split_shares=[0.0, 0.0, 1.0])
    return labelled(ModelConfig(name="densenet_tiny", image_size=32, num_classes=2), data, cache)


def test_its_details_hold_the_builds_and_the_service(measured, tmp_path):
    row = row_from(measured, tmp_path)
    details = json.loads(row.artifacts["interaction.json"].read_text())
    assert set(details["cells"]) == set(details["serving"]) == {"baseline", "hw"}
    assert all({"loaded", "fidelity"} <= set(cell) for cell in details["cells"].values())
    assert row.metrics["hw/fidelity/cosine"] == pytest.approx(details["cells"]["hw"]["fidelity"]["cosine"])


@pytest.mark.parametrize("scenario", ["server", "offline", "single_stream"])
@pytest.mark.parametrize("rate_per_s", [None, 5.0])
def test_every_metric_under_load_is_declared(measured, scenario, rate_per_s):
    """Four cells of four repeats each, so that there are gains and a factor too."""
    plan, measurement = measured
    rate = rate_per_s if scenario == "server" else None
    config = replace(plan.config, scenario=replace(plan.config.scenario, name=scenario, rate_per_s=rate))
    cell = next(iter(measurement.cells.values()))
    cell = replace(cell, repeats=cell.repeats * 4)
    measurement = replace(measurement, cells=dict.fromkeys(ROLES, cell))
    found = scenario_of(config).analyse(replace(plan, config=config), measurement)
    assert f"throughput/{found.primary}" in found.metrics
    assert (f"interaction/{found.primary}_factor" in found.metrics) == (found.primary != "completed")
    assert {name for name in found.metrics if find_metric(name) is None} == set()

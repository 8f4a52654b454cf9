"""A quartet under load -> its row in MLflow: what was built, and what it served, with every request kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas

from harness.measure.design import QuartetPlan
from harness.results.analyse import Analysis
from harness.results.cells import degraded, fidelity_metrics
from harness.results.figure import draw_quartet
from harness.results.load_analysis import LoadAnalysis, slowdown
from harness.results.load_figure import draw_latency_rate
from harness.results.record import add_skipped, built
from harness.results.row import QuartetRecord, RowDraft
from harness.results.serving_file import serving_json
from harness.results.strategy import strategy
from harness.serving.batch_runs import write_batches
from harness.serving.measure import LoadMeasurement
from harness.serving.variants import prepared

SERVER_BOUND = 1.1  # a batch that takes longer by more than this under load is worth a remark


def record_load(
    plan: QuartetPlan, measurement: LoadMeasurement, analysis: LoadAnalysis, folder: Path, resolved_config: str
) -> QuartetRecord:
    """Return the row of a quartet under load, its files written below `folder`."""
    cells = prepared({role: cell.variant for role, cell in measurement.cells.items()})
    row = built(plan, cells, folder)
    _add_served(row, measurement, analysis)
    row.tags["degraded"] = "; ".join(degraded(cells, measurement.loaded))
    _add_requests(row, plan, measurement)
    if analysis.interaction is not None:
        _add_verdict(row, plan, analysis)
    add_skipped(row, cells)
    return row.finished(resolved_config)


def _add_served(row: RowDraft, measurement: LoadMeasurement, analysis: LoadAnalysis) -> None:
    """Add what the cells served, and how they were when they did."""
    row.metrics |= {**fidelity_metrics(measurement.fidelity), **analysis.metrics}
    row.tags |= {"boundary": analysis.boundary, "loadgen": analysis.loadgen}
    if measurement.host_shares:
        row.tags["host_bound"] = str(measurement.host_bound).lower()
    row.notes += [measurement.note, _server_bound(measurement)]
    row.details |= {
        "interaction": {analysis.boundary: asdict(analysis.interaction)} if analysis.interaction else {},
        "predicted_per_s": measurement.predicted_per_s,
        "loaded": {role: asdict(found) for role, found in measurement.loaded.items()},
        "fidelity": {role: asdict(found) for role, found in measurement.fidelity.items()},
        "serving": {
            role: {
                "plan": asdict(cell.variant.plan),
                "ready": asdict(cell.served),
                "batch_sizes": [repeat.deciding.batch_sizes for repeat in cell.repeats],
                "saturated_exits_per_s": dict(cell.exit_bounds_per_s),
            }
            for role, cell in measurement.cells.items()
        },
    }


def _add_requests(row: RowDraft, plan: QuartetPlan, measurement: LoadMeasurement) -> None:
    """Add every request, every batch and the curves; LoadGen's own summaries beside them."""
    for role, text in _summaries(measurement).items():
        row.file(f"loadgen/{role}/summary.txt").write_text(text)
    serving = serving_json(measurement, plan.config)
    row.file("serving.json").write_text(serving)
    write_queries(measurement, row.file("queries.parquet"))
    batches = [
        ({"cell": role, "repeat": number, "rate": result.test.expected_per_s}, result.batches)
        for role, cell in measurement.cells.items()
        for number, repeat in enumerate(cell.repeats)
        for result in repeat.results
    ]
    write_batches(batches, row.file("batches.parquet"))
    if measurement.telemetry is not None and measurement.telemetry.rows:
        row.table("telemetry.parquet", pandas.DataFrame(measurement.telemetry.rows))
    if plan.config.scenario.name == "server":
        curves = draw_latency_rate(json.loads(serving), f"{plan.label}, {plan.config.model.name}")
        curves.savefig(row.file("figures/latency_rate.png"), dpi=150)


def _add_verdict(row: RowDraft, plan: QuartetPlan, analysis: LoadAnalysis) -> None:
    found = _as_analysis(analysis)
    interaction = found.interactions[found.primary]
    row.tags |= {"verdict": str(interaction.verdict), "reason": interaction.reason, "strategy": strategy(plan, found)}
    row.description = row.tags["strategy"]
    label = f"{plan.label}, {plan.config.model.name}, {analysis.boundary}"
    draw_quartet(found, label, row.file("figures/quartet.png"))


def _as_analysis(analysis: LoadAnalysis) -> Analysis:
    """Return the factor in the form that figures and advice are made from; its boundary is what throughput is of."""
    assert analysis.interaction is not None
    return Analysis(
        metrics=analysis.metrics,
        interactions={analysis.boundary: analysis.interaction},
        primary=analysis.boundary,
        verdict=analysis.verdict,
        host_bound=None,
        coursework=None,
    )


def _server_bound(measurement: LoadMeasurement) -> str:
    """Return which cells the server holds up, "" where none."""
    ratios = {role: ratio for role, cell in measurement.cells.items() if (ratio := slowdown(cell)) is not None}
    held_up = [f"{role} {ratio:.2f}x" for role, ratio in ratios.items() if ratio > SERVER_BOUND]
    return f"batches take longer under load than alone: {', '.join(held_up)}" if held_up else ""


def _summaries(measurement: LoadMeasurement) -> dict[str, str]:
    """Return LoadGen's own summaries of every test, by cell."""
    return {
        role: "\n".join(
            f"repeat {number}, {result.test.scenario}, {result.test.expected_per_s:.6g} requests/s, seed "
            f"{result.test.seed}: {'valid' if result.valid else 'not valid: ' + result.reason}\n{result.summary}"
            for number, repeat in enumerate(cell.repeats)
            for result in repeat.results
        )
        for role, cell in measurement.cells.items()
    }


def write_queries(measurement: LoadMeasurement, path: Path) -> None:
    """Write one row a request: cell, repeat, rate asked for, seconds since its test's first request, batch size."""
    import pyarrow
    import pyarrow.parquet

    tables = []
    for role, cell in measurement.cells.items():
        for number, repeat in enumerate(cell.repeats):
            for result in repeat.results:
                columns: Mapping[str, np.ndarray] = result.record.columns()
                count = len(columns["issued_s"])
                leading = {
                    "cell": pyarrow.array([role] * count).dictionary_encode(),
                    "repeat": np.full(count, number, dtype=np.int32),
                    "rate": np.full(count, result.test.expected_per_s),
                }
                tables.append(pyarrow.table({**leading, **columns}))
    whole = pyarrow.concat_tables(tables).unify_dictionaries()
    pyarrow.parquet.write_table(whole, path, compression="zstd")

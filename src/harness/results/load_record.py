"""A quartet under load -> what its row has of its own: how the cells served, with every request kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np

from harness.measure.design import QuartetPlan
from harness.results.load_analysis import slowdown
from harness.results.load_figure import draw_latency_rate
from harness.results.row import RowDraft
from harness.results.serving_file import serving_json
from harness.serving.batch_runs import write_batches
from harness.serving.measure import LoadMeasurement

SERVER_BOUND = 1.1  # a batch that takes longer by more than this under load is worth a remark


def add_served(row: RowDraft, plan: QuartetPlan, measurement: LoadMeasurement) -> None:
    """Add how the cells served, with every request, every batch and LoadGen's own summaries."""
    row.notes.append(_server_bound(measurement))
    row.details |= {
        "predicted_per_s": measurement.predicted_per_s,
        "serving": {
            role: {
                "plan": asdict(cell.variant.plan),
                "ready": asdict(cell.served),
                "batch_sizes": [repeat.deciding.batch_sizes for repeat in cell.repeats],
                "saturated_per_s": dict(cell.saturated_per_s),
            }
            for role, cell in measurement.cells.items()
        },
    }
    for role, text in _summaries(measurement).items():
        row.file(f"loadgen/{role}/summary.txt").write_text(text)
    row.file("serving.json").write_text(serving_json(measurement, plan.config))
    write_queries(measurement, row.file("queries.parquet"))
    batches = [
        ({"cell": role, "repeat": number, "rate": result.test.expected_per_s}, result.batches)
        for role, cell in measurement.cells.items()
        for number, repeat in enumerate(cell.repeats)
        for result in repeat.results
    ]
    write_batches(batches, row.file("batches.parquet"))


def add_latency_rate(row: RowDraft, plan: QuartetPlan) -> None:
    """Add the picture of the curves that `serving.json`, which is there, holds."""
    serving = json.loads(row.artifacts["serving.json"].read_text())
    curves = draw_latency_rate(serving, f"{plan.label}, {plan.config.model.name}")
    curves.savefig(row.file("figures/latency_rate.png"), dpi=150)


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

"""A quartet under load -> what its row has beside every row's: how the cells served, with every request."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from harness.config import HarnessConfig
from harness.measure.cell import QuartetPlan
from harness.results.estimand import label_in_words
from harness.results.figures import draw_latency_rate
from harness.results.load_analysis import mean_rate, rate_interval, slowdown, throughputs
from harness.results.row import RowDraft
from harness.results.units import SAMPLE
from harness.serving.measure import CellUnderLoad, LoadMeasurement
from harness.serving.records import write_batches
from harness.serving.serving_cell import point

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
    curves = draw_latency_rate(serving, f"{label_in_words(plan)}, {plan.config.model.name}")
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
    """Write a row a request: cell, repeat, requested rate, seconds since its test's first request, batch size."""
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


def serving_json(measurement: LoadMeasurement, config: HarnessConfig) -> str:
    """Return the text of `serving.json`, which `harness.capacity` reads: rates at the bound, curves, batch times.

        {"slo_ms", "percentile", "sample": "image", "cells": {"baseline": {"at_slo_per_s", "low_per_s", "high_per_s",
          "points": [{"rate_per_s", "completed_per_s", "latency_ms", "valid", "reason"}],
          "service_ms": {"8": [one batch, ...]}, "policy": {"max_batch_size", "max_queue_delay_us", "static"}}}}

    What was not found is null, and so is a latency at which requests were shed: it had no end.
    """
    cells = {role: _cell(cell) for role, cell in measurement.cells.items()}
    content = {
        "scenario": config.scenario.name,
        "slo_ms": config.scenario.slo_ms,
        "percentile": config.scenario.percentile,
        SAMPLE: next(iter(measurement.cells.values())).variant.cell.sample,
        "cells": cells,
    }
    return json.dumps(content, indent=1, allow_nan=False)


def _cell(cell: CellUnderLoad) -> dict[str, Any]:
    searched = all(repeat.found is not None for repeat in cell.repeats)
    rates = throughputs(cell) if searched else []
    interval = rate_interval(rates, [repeat.restart for repeat in cell.repeats]) if rates else None
    if interval is None and rates:  # too few repeats for an interval: the brackets of the searches
        founds = [repeat.found for repeat in cell.repeats if repeat.found is not None]
        above = [found.failed.arrived_per_s if found.failed else math.inf for found in founds]
        interval = min(rates), max(*rates, *above)
    policy = cell.variant.plan.policy
    return {
        "at_slo_per_s": mean_rate(cell) if rates else None,
        "low_per_s": _number(interval[0]) if interval else None,
        "high_per_s": _number(interval[1]) if interval else None,
        "points": [
            {
                "rate_per_s": result.arrived_per_s,
                "completed_per_s": result.completed_per_s,
                "latency_ms": _number(point(result).latency_ms),
                "valid": result.valid,
                "reason": result.reason,
                "repeat": number,
            }
            for number, repeat in enumerate(cell.repeats)
            for result in repeat.results
        ],
        "service_ms": {str(size): list(ms) for size, ms in cell.load.service_ms.items()},
        "policy": {
            "max_batch_size": policy.max_batch_size,
            "max_queue_delay_us": policy.max_queue_delay_us,
            "preferred_batch_sizes": list(policy.preferred_batch_sizes),
            "buckets": list(policy.buckets),
            "static": policy.static,
        },
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None

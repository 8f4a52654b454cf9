"""A quartet under load -> its row in MLflow: what was built, and what it served, with every request kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from harness.measure.design import QuartetPlan
from harness.results.analyse import Analysis
from harness.results.cells import degraded, fidelity_metrics
from harness.results.figure import draw_quartet
from harness.results.load_analysis import LoadAnalysis, slowdown
from harness.results.load_figure import draw_latency_rate
from harness.results.quartet import record
from harness.results.row import QuartetRecord
from harness.results.serving_file import serving_json
from harness.results.strategy import strategy
from harness.serving.batches import write_batches
from harness.serving.measure import LoadMeasurement
from harness.serving.variants import prepared

SERVER_BOUND = 1.1  # a batch that takes longer by more than this under load is worth a remark


def record_load(
    plan: QuartetPlan, measurement: LoadMeasurement, analysis: LoadAnalysis, folder: Path, resolved_config: str
) -> QuartetRecord:
    """Return the row of a quartet under load, its files written below `folder`."""
    cells = measurement.cells
    whole = prepared({role: cell.variant for role, cell in cells.items()})
    more = {
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
            for role, cell in cells.items()
        },
    }
    built = record(plan, whole, None, None, folder, resolved_config, more)
    artifacts: dict[str, Path] = {**built.artifacts, **_loadgen_files(measurement, folder)}
    serving = serving_json(measurement, plan.config)
    (folder / "serving.json").write_text(serving)
    write_queries(measurement, folder / "queries.parquet")
    batches = [
        ({"cell": role, "repeat": number, "rate": result.test.expected_per_s}, result.batches)
        for role, cell in cells.items()
        for number, repeat in enumerate(cell.repeats)
        for result in repeat.results
    ]
    write_batches(batches, folder / "batches.parquet")
    artifacts |= {name: folder / name for name in ("serving.json", "queries.parquet", "batches.parquet")}
    if measurement.telemetry is not None and measurement.telemetry.rows:
        import pandas

        pandas.DataFrame(measurement.telemetry.rows).to_parquet(folder / "telemetry.parquet", index=False)
        artifacts["telemetry.parquet"] = folder / "telemetry.parquet"
    if plan.config.scenario.name == "server":
        label = f"{plan.label}, {plan.config.model.name}"
        draw_latency_rate(json.loads(serving), label).savefig(folder / "latency_rate.png", dpi=150)
        artifacts["figures/latency_rate.png"] = folder / "latency_rate.png"
    advice = ""
    if analysis.interaction is not None:
        found = _as_analysis(analysis)
        advice = strategy(plan, found)
        label = f"{plan.label}, {plan.config.model.name}, {analysis.boundary}"
        draw_quartet(found, label, folder / "quartet.png")
        artifacts["figures/quartet.png"] = folder / "quartet.png"
    tags = _tags(measurement, analysis)
    if reasons := degraded(whole, measurement.loaded):
        tags["degraded"] = "; ".join(reasons)
    if notes := [note for note in (measurement.note, _server_bound(measurement), built.tags.get("note", "")) if note]:
        tags["note"] = "; ".join(notes)
    return replace(
        built,
        metrics={**built.metrics, **fidelity_metrics(measurement.fidelity), **analysis.metrics},
        tags={**built.tags, **tags, **({"strategy": advice} if advice else {})},
        artifacts=artifacts,
        description=advice,
    )


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


def _tags(measurement: LoadMeasurement, analysis: LoadAnalysis) -> dict[str, str]:
    tags = {"boundary": analysis.boundary, "loadgen": analysis.loadgen}
    if measurement.host_shares:
        tags["host_bound"] = str(measurement.host_bound).lower()
    if analysis.interaction is not None:
        tags |= {"verdict": str(analysis.interaction.verdict), "reason": analysis.interaction.reason}
    return {name: value for name, value in tags.items() if value}


def _server_bound(measurement: LoadMeasurement) -> str:
    """Return which cells the server holds up, "" where none."""
    ratios = {role: ratio for role, cell in measurement.cells.items() if (ratio := slowdown(cell)) is not None}
    held_up = [f"{role} {ratio:.2f}x" for role, ratio in ratios.items() if ratio > SERVER_BOUND]
    return f"batches take longer under load than alone: {', '.join(held_up)}" if held_up else ""


def _loadgen_files(measurement: LoadMeasurement, folder: Path) -> dict[str, Path]:
    """Write LoadGen's own summaries of every test of each cell, one file a cell."""
    out = {}
    for role, cell in measurement.cells.items():
        texts = [
            f"repeat {number}, {result.test.scenario}, {result.test.expected_per_s:.6g} requests/s, seed "
            f"{result.test.seed}: {'valid' if result.valid else 'not valid: ' + result.reason}\n{result.summary}"
            for number, repeat in enumerate(cell.repeats)
            for result in repeat.results
        ]
        path = folder / "loadgen" / role / "summary.txt"
        path.parent.mkdir(parents=True)
        path.write_text("\n".join(texts))
        out[f"loadgen/{role}/summary.txt"] = path
    return out


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

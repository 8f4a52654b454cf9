"""The row of one quartet: metrics, tags and artifacts under the contract's names, its files written to a folder."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas

from harness.measure.design import QuartetPlan
from harness.measure.prepared import PreparedCell
from harness.measure.protocol import Measurement
from harness.results.analyse import Analysis
from harness.results.answers import answer_metrics, answer_table, skipped_list, skipped_note
from harness.results.cells import (
    cell_details,
    consumption_metrics,
    cost_metrics,
    degraded,
    fidelity_metrics,
    inspections,
    roofline_metrics,
)
from harness.results.figure import draw_quartet
from harness.results.roofline.metrics import machine_metrics
from harness.results.row import QuartetRecord
from harness.results.strategy import strategy
from harness.results.why.ceiling import standings
from harness.results.why.details import details as why_details
from harness.results.why.explain import Why, explain
from harness.stats.roles import prefix_of
from harness.system.machine import environment


def record(
    plan: QuartetPlan,
    cells: Mapping[str, PreparedCell],
    measurement: Measurement | None,
    analysis: Analysis | None,
    folder: Path,
    resolved_config: str,
    more: Mapping[str, Any] | None = None,
) -> QuartetRecord:
    """Return the row of a quartet, its files written below `folder`; without a measurement, what was built.

    `more` goes into interaction.json beside what stands there.
    """
    metrics: dict[str, float] = {}
    for role, cell in cells.items():
        metrics |= cost_metrics(prefix_of(role), cell, plan.config.batch_size)
        metrics |= roofline_metrics(role, cell, plan.config.batch_size, measurement, analysis)
    data = next(iter(cells.values())).data
    skipped = skipped_note(data) if data is not None else ""
    metrics["build/cache_hit"] = float(all(cell.cache_hit for cell in cells.values()))
    tags: dict[str, Any] = {
        "engine_version": cells[plan.cells[-1].role].artifacts[0].engine_version,
        "degraded": "; ".join(degraded(cells, measurement.loaded if measurement is not None else {})),
        "note": "; ".join(part for part in (_note(measurement), skipped) if part),
    }
    details: dict[str, Any] = {
        "quartet": plan.label,
        "cells": {role: cell_details(cell, measurement, role) for role, cell in cells.items()},
    }
    artifacts = inspections(cells)
    description = ""
    if measurement is not None and analysis is not None:
        metrics |= {**analysis.metrics, **fidelity_metrics(measurement.fidelity), **consumption_metrics(measurement)}
        metrics |= machine_metrics(measurement.ceilings)
        tags |= {
            "boundary": analysis.primary,
            "converged": str(measurement.converged).lower(),
        }
        if analysis.host_bound is not None:
            tags["host_bound"] = str(analysis.host_bound).lower()
        why = _why(plan, measurement, analysis, metrics)
        if why is not None:
            tags["why"] = " ".join(why.sentences)
            details["why"] = why_details(why)
            metrics["why/amdahl_factor"] = why.stagewise.amdahl_factor
            metrics["why/host_factor"] = math.exp(why.stagewise.host)
            metrics["why/attributed"] = min(profile.attributed for profile in why.profiles.values())
        if analysis.verdict:
            tags["verdict"] = analysis.verdict
            tags["reason"] = analysis.interactions[analysis.primary].reason
            tags["strategy"] = strategy(plan, analysis)
            description = f"**{analysis.verdict}** {tags['strategy']}"
            if why is not None:
                description += "\n\n**Why** " + " ".join(why.sentences)
            draw_quartet(
                analysis,
                f"{plan.label}, {plan.config.model.name}, batch {plan.config.batch_size}",
                folder / "quartet.png",
            )
            artifacts["figures/quartet.png"] = folder / "quartet.png"
        if analysis.coursework:
            metrics["coursework/factor"] = analysis.coursework["factor"]
            tags["coursework_verdict"] = analysis.coursework["verdict"]
        details |= {
            "interaction": {name: asdict(found) for name, found in analysis.interactions.items()},
            "coursework": analysis.coursework,
            "coursework_ms": dict(measurement.coursework_ms),
            "standing": asdict(measurement.standing),
        }
        if measurement.answers is not None and data is not None:
            metrics |= answer_metrics(measurement.answers, data, plan.config.protocol.level)
            answer_table(measurement.answers, data).to_parquet(folder / "answers.parquet", index=False)
            artifacts["answers.parquet"] = folder / "answers.parquet"
        artifacts |= {path.name: path for path in measurement.samples.write(folder / "samples.parquet")}
        if measurement.telemetry is not None:
            pandas.DataFrame(measurement.telemetry.rows).to_parquet(folder / "telemetry.parquet", index=False)
            artifacts["telemetry.parquet"] = folder / "telemetry.parquet"
    if data is not None and skipped:
        (folder / "skipped_images.txt").write_text(skipped_list(data))
        artifacts["skipped_images.txt"] = folder / "skipped_images.txt"
    for name, content in (
        ("interaction.json", json.dumps({**details, **(more or {})}, indent=1, default=str)),
        ("environment.json", json.dumps(environment(), indent=1)),
        ("config.yaml", resolved_config),
    ):
        (folder / name).write_text(content)
        artifacts[name] = folder / name
    tags = {name: value for name, value in tags.items() if value != ""}
    return QuartetRecord(metrics=metrics, tags=tags, artifacts=artifacts, description=description)


def _why(plan: QuartetPlan, measurement: Measurement, analysis: Analysis, metrics: Mapping[str, float]) -> Why | None:
    """Return what the profiles say of the factor on the primary boundary."""
    speeds = {
        boundary: {
            role: analysis.metrics[f"{prefix_of(role)}throughput/{boundary}"] for role in measurement.samples.roles
        }
        for boundary in measurement.samples.boundaries
    }
    found = analysis.interactions
    on_wall = None
    if analysis.primary == "device" and {"device", "wall"} <= set(found):
        on_wall = math.log(found["wall"].factor / found["device"].factor)
    return explain(
        measurement.profiles,
        speeds[analysis.primary],
        speeds.get("device"),
        analysis.primary,
        plan.config.batch_size,
        on_wall,
        established=analysis.verdict not in (None, "inconclusive"),
        standings=standings(metrics, {role: prefix_of(role) for role in measurement.samples.roles}),
    )


def _note(measurement: Measurement | None) -> str:
    if measurement is None:
        return ""
    every = measurement.samples.kept_every
    thinned = f"samples.parquet holds every {every}th iteration, visits.parquet the sums of all" if every > 1 else ""
    return "; ".join(note for note in (measurement.note, thinned) if note)

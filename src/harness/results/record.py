"""The row of one quartet: metrics, tags and artifacts under the contract's names, its files written to a folder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

import pandas

from harness.measure.cell import Loaded
from harness.measure.design import QuartetPlan
from harness.measure.prepared import PreparedCell
from harness.measure.protocol import Measurement
from harness.measure.telemetry import Telemetry
from harness.measure.verify import Fidelity
from harness.results.accuracy import answer_metrics, answer_table, skipped_list, skipped_note
from harness.results.analyse import Analysis
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
from harness.results.row import RowDraft
from harness.results.strategy import strategy
from harness.results.why.ceiling import standings
from harness.results.why.details import details as why_details
from harness.results.why.explain import Why, explain
from harness.stats.roles import prefix_of


class Measured(Protocol):
    """What every scenario's measurement has."""

    @property
    def loaded(self) -> Mapping[str, Loaded]:
        """What loading each cell showed."""

    @property
    def fidelity(self) -> Mapping[str, Fidelity]:
        """How near each cell's outputs came to its own network's in fp32 eager."""

    @property
    def telemetry(self) -> Telemetry | None:
        """What the machine did meanwhile."""

    @property
    def note(self) -> str:
        """What a reader of the result must know."""


def begin_row(plan: QuartetPlan, cells: Mapping[str, PreparedCell], folder: Path) -> RowDraft:
    """Begin a row with what was built; its files are written below `folder`."""
    row = RowDraft(folder)
    for role, cell in cells.items():
        row.metrics |= cost_metrics(prefix_of(role), cell, plan.config.batch_size)
        row.metrics |= roofline_metrics(role, cell, plan.config.batch_size)
    row.metrics["build/cache_hit"] = float(all(cell.cache_hit for cell in cells.values()))
    row.tags["engine_version"] = cells[plan.cells[-1].role].artifacts[0].engine_version
    row.tags["degraded"] = "; ".join(degraded(cells, {}))
    row.details["quartet"] = plan.label
    row.details["cells"] = {role: cell_details(cell) for role, cell in cells.items()}
    row.artifacts |= inspections(cells)
    data = next(iter(cells.values())).data
    if data is not None and (note := skipped_note(data)):
        row.notes.append(note)
        row.file("skipped_images.txt").write_text(skipped_list(data))
    return row


def add_measured(
    row: RowDraft, plan: QuartetPlan, cells: Mapping[str, PreparedCell], measurement: Measured, analysis: Analysis
) -> None:
    """Add what every scenario measures: its numbers, how true the cells were, and the verdict where there is one."""
    row.metrics |= {**fidelity_metrics(measurement.fidelity), **analysis.metrics}
    row.tags |= {"boundary": analysis.primary, **analysis.tags}
    if analysis.host_bound is not None:
        row.tags["host_bound"] = str(analysis.host_bound).lower()
    row.tags["degraded"] = "; ".join(degraded(cells, measurement.loaded))
    row.notes.insert(0, measurement.note)
    row.details["interaction"] = {name: asdict(found) for name, found in analysis.interactions.items()}
    for name, found in (("loaded", measurement.loaded), ("fidelity", measurement.fidelity)):
        for role, details in found.items():
            row.details["cells"][role][name] = asdict(details)
    if measurement.telemetry is not None:
        row.table("telemetry.parquet", pandas.DataFrame(measurement.telemetry.rows))
    if analysis.verdict:
        _add_verdict(row, plan, analysis)


def add_blocks(
    row: RowDraft, plan: QuartetPlan, cells: Mapping[str, PreparedCell], measurement: Measurement, analysis: Analysis
) -> None:
    """Add what timed blocks give beside the factor: samples, consumption, answers, roofline, and what explains it."""
    row.metrics |= {**consumption_metrics(measurement), **machine_metrics(measurement.ceilings)}
    for role, cell in cells.items():
        row.metrics |= roofline_metrics(role, cell, plan.config.batch_size, measurement, analysis)
        row.details["cells"][role]["warmup"] = asdict(measurement.warmups[role])
    row.tags["converged"] = str(measurement.converged).lower()
    if analysis.coursework:
        row.metrics["coursework/factor"] = analysis.coursework["factor"]
        row.tags["coursework_verdict"] = analysis.coursework["verdict"]
    row.notes.append(_thinned(measurement))
    row.details |= {
        "coursework": analysis.coursework,
        "coursework_ms": dict(measurement.coursework_ms),
        "standing": asdict(measurement.standing),
    }
    row.artifacts |= {path.name: path for path in measurement.samples.write(row.folder / "samples.parquet")}
    _add_answers(row, plan, cells, measurement)
    why = _why(plan, measurement, analysis, row.metrics)
    if why is not None:
        _add_why(row, why)


def _add_answers(row: RowDraft, plan: QuartetPlan, cells: Mapping[str, PreparedCell], measurement: Measurement) -> None:
    """Add what the cells answered on labelled images, where there are any."""
    data = next(iter(cells.values())).data
    if measurement.answers is not None and data is not None:
        row.metrics |= answer_metrics(measurement.answers, data, plan.config.protocol.level)
        row.table("answers.parquet", answer_table(measurement.answers, data))


def _add_verdict(row: RowDraft, plan: QuartetPlan, analysis: Analysis) -> None:
    row.tags["verdict"] = analysis.verdict
    row.tags["reason"] = analysis.interactions[analysis.primary].reason
    row.tags["strategy"] = strategy(plan, analysis)
    row.description = f"**{analysis.verdict}** {row.tags['strategy']}"
    label = f"{plan.label}, {plan.config.model.name}, batch {plan.config.batch_size}"
    draw_quartet(analysis, label, row.file("figures/quartet.png"))


def _add_why(row: RowDraft, why: Why) -> None:
    """Add where the factor comes from; beneath the verdict where there is one."""
    row.tags["why"] = " ".join(why.sentences)
    row.details["why"] = why_details(why)
    row.metrics["why/amdahl_factor"] = why.stagewise.amdahl_factor
    row.metrics["why/host_factor"] = math.exp(why.stagewise.host)
    row.metrics["why/attributed"] = min(profile.attributed for profile in why.profiles.values())
    if row.description:
        row.description += f"\n\n**Why** {row.tags['why']}"


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


def _thinned(measurement: Measurement) -> str:
    every = measurement.samples.kept_every
    return f"samples.parquet holds every {every}th iteration, visits.parquet the sums of all" if every > 1 else ""

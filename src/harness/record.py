"""Results -> one MLflow row: params, metrics, tags and artifacts of a quartet under the contract's names."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas

from harness import arch, hw
from harness.accuracy.record import answer_metrics, answer_table, skipped_list, skipped_note
from harness.analyse import Analysis, prefix_of
from harness.config import HarnessConfig, ScenarioConfig
from harness.engines.base import INSPECTOR_FILE
from harness.environment import environment
from harness.finetuned import weights_of
from harness.measure.protocol import Measurement
from harness.plan import QuartetPlan
from harness.prepare import PreparedCell
from harness.report.figure import draw_quartet
from harness.report.strategy import strategy
from harness.roofline import cell_metrics, machine_metrics
from harness.track import QuartetRecord
from harness.why.ceiling import standings
from harness.why.details import details as why_details
from harness.why.explain import Why, explain


def params(plan: QuartetPlan) -> dict[str, Any]:
    """Return what was asked: the axes of the grid and the options of the techniques that are on."""
    config = plan.config
    precision = plan.cells[-1].levels.precision
    return {
        "model": config.model.name,
        "arch": "+".join(plan.arch) or "none",
        "hw": "+".join(plan.hw) or "none",
        "batch_size": config.batch_size,
        "engine": plan.engine,
        "reference": config.reference,
        "scenario": config.scenario.name,
        "precision": precision if precision == "fp16" else ("tf32" if config.precision.tf32 else "fp32"),
        **_origins(config),
        "image_size": config.model.image_size,
        **arch.flat_options(config.arch),
        **hw.flat_options(config.hw),
        **{f"protocol.{name}": value for name, value in asdict(config.protocol).items()},
        **(_scenario_options(config.scenario) if config.scenario.name != "fixed" else {}),
    }


def _scenario_options(scenario: ScenarioConfig) -> dict[str, Any]:
    return {f"scenario.{name}": value for name, value in asdict(scenario).items() if name != "name"}


def _origins(config: HarnessConfig) -> dict[str, Any]:
    """Return what was measured on: the weights of the model and of its changed form, and the images."""
    found = weights_of(config, config.arch)
    out: dict[str, Any] = {
        "weights": found.model.weights or f"random (seed {config.model.seed})",
        "data": config.data.name if config.data.path is None else f"{config.data.name} {config.data.path}",
    }
    if found.checkpoint is not None:
        out["arch_weights"] = found.checkpoint
    return out


def record(
    plan: QuartetPlan,
    cells: Mapping[str, PreparedCell],
    measurement: Measurement | None,
    analysis: Analysis | None,
    folder: Path,
    resolved_config: str,
) -> QuartetRecord:
    """Return the row of a quartet, its files written below `folder`; without a measurement, what was built."""
    metrics: dict[str, float] = {}
    for role, cell in cells.items():
        metrics |= _cell_metrics(prefix_of(role), cell, plan.config.batch_size)
        metrics |= _roofline(role, cell, plan.config.batch_size, measurement, analysis)
    data = next(iter(cells.values())).data
    skipped = skipped_note(data) if data is not None else ""
    metrics["build/cache_hit"] = float(all(cell.cache_hit for cell in cells.values()))
    tags: dict[str, Any] = {
        "engine_version": cells[plan.cells[-1].role].artifacts[0].engine_version,
        "degraded": "; ".join(_degraded(cells, measurement)),
        "note": "; ".join(part for part in (_note(measurement), skipped) if part),
    }
    details: dict[str, Any] = {
        "quartet": plan.label,
        "cells": {role: _cell_details(cell, measurement, role) for role, cell in cells.items()},
    }
    artifacts = _inspections(cells)
    description = ""
    if measurement is not None and analysis is not None:
        metrics |= {**analysis.metrics, **_fidelity(measurement), **_consumption(measurement)}
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
        ("interaction.json", json.dumps(details, indent=1, default=str)),
        ("environment.json", json.dumps(environment(), indent=1)),
        ("config.yaml", resolved_config),
    ):
        (folder / name).write_text(content)
        artifacts[name] = folder / name
    tags = {name: value for name, value in tags.items() if value != ""}
    return QuartetRecord(params={}, metrics=metrics, tags=tags, artifacts=artifacts, description=description)


def _cell_metrics(prefix: str, cell: PreparedCell, batch_size: int) -> dict[str, float]:
    accounting, policy = cell.network.accounting, cell.network.policy
    gmacs, exit_share = accounting.gmacs, 0.0
    if policy is not None:
        exit_share = policy.leaving(batch_size)
        gmacs = accounting.gmacs_none_exit + exit_share * (accounting.gmacs_all_exit - accounting.gmacs_none_exit)
    out = {
        f"{prefix}model/params_m": accounting.params / 1e6,
        f"{prefix}model/gmacs": gmacs,
        f"{prefix}build/export_s": cell.export_s,
        f"{prefix}build/engine_s": cell.engine_s,
        f"{prefix}build/engine_mb": cell.engine_mb,
        f"{prefix}build/cache_hit": float(cell.cache_hit),
    }
    if policy is not None:
        out[f"{prefix}early_exit/exit_share"] = exit_share
        out[f"{prefix}early_exit/gmacs_no_exit"] = accounting.gmacs_none_exit
        out[f"{prefix}early_exit/gmacs_all_exit"] = accounting.gmacs_all_exit
        if policy.threshold is not None:
            out[f"{prefix}early_exit/threshold"] = policy.threshold
    return out


def _roofline(
    role: str, cell: PreparedCell, batch_size: int, measurement: Measurement | None, analysis: Analysis | None
) -> dict[str, float]:
    """Return what a cell takes on paper, and where it was measured, how near that came to the machine's ceiling."""
    prefix = prefix_of(role)
    throughput_ips = analysis.metrics.get(f"{prefix}throughput/{analysis.primary}") if analysis is not None else None
    ceilings = measurement.ceilings if measurement is not None else None
    found = cell_metrics(cell.artifacts, cell.network.policy, batch_size, throughput_ips, ceilings)
    return {f"{prefix}{name}": value for name, value in found.items()}


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


def _fidelity(measurement: Measurement) -> dict[str, float]:
    out: dict[str, float] = {}
    for role, found in measurement.fidelity.items():
        out |= {
            f"{prefix_of(role)}fidelity/{name}": value for name, value in asdict(found).items() if value is not None
        }
    return out


def _consumption(measurement: Measurement) -> dict[str, float]:
    """Return energy and memory of each cell; what the machine does not tell is absent."""
    out: dict[str, float] = {}
    for role, found in measurement.consumption.items():
        named = {
            "gpu/energy_j_per_image": found.energy_j_per_image,
            "gpu/peak_memory_mb": found.device_memory_mb,
            "host/peak_memory_mb": found.host_memory_mb,
        }
        out |= {f"{prefix_of(role)}{name}": value for name, value in named.items() if value is not None}
    return out


def _degraded(cells: Mapping[str, PreparedCell], measurement: Measurement | None) -> list[str]:
    """Return every reason why a cell is less than what was asked, with the cells it holds for."""
    by_reason: dict[str, list[str]] = {}
    for role, cell in cells.items():
        found = list(cell.degraded)
        if measurement is not None:
            found += [reason for reason in measurement.loaded[role].degraded if reason not in found]
        for reason in found:
            by_reason.setdefault(reason, []).append(role)
    return [f"{', '.join(roles)}: {reason}" for reason, roles in by_reason.items()]


def _note(measurement: Measurement | None) -> str:
    if measurement is None:
        return ""
    every = measurement.samples.kept_every
    thinned = f"samples.parquet holds every {every}th iteration, visits.parquet the sums of all" if every > 1 else ""
    return "; ".join(note for note in (measurement.note, thinned) if note)


def _inspections(cells: Mapping[str, PreparedCell]) -> dict[str, Path]:
    """Return what engines tell of their layers, where they could, by artifact name."""
    out: dict[str, Path] = {}
    for role, cell in cells.items():
        for number, artifact in enumerate(cell.artifacts, start=1):
            if (artifact.path / INSPECTOR_FILE).is_file():
                stage = artifact.plan.stage or f"stage{number}"
                out[f"inspector/{role}-{stage}.json"] = artifact.path / INSPECTOR_FILE
    return out


def _cell_details(cell: PreparedCell, measurement: Measurement | None, role: str) -> dict[str, Any]:
    """Return the proof of what a cell was: levels, engine, nodes, precision in use, how it warmed up."""
    out: dict[str, Any] = {
        "engine": cell.plan.engine,
        "levels": asdict(cell.plan.levels),
        "accounting": asdict(cell.network.accounting),
        "stages": [
            {
                "stage": artifact.plan.stage or f"stage{number}",
                "graph_sha256": artifact.plan.graph.sha256,
                "batch": asdict(artifact.plan.batch),
                "proof": dict(artifact.proof),
                "degraded": list(artifact.degraded),
            }
            for number, artifact in enumerate(cell.artifacts, start=1)
        ],
        "policy": asdict(cell.network.policy) if cell.network.policy is not None else None,
    }
    if measurement is not None:
        out["loaded"] = asdict(measurement.loaded[role])
        out["warmup"] = asdict(measurement.warmups[role])
        out["fidelity"] = asdict(measurement.fidelity[role])
    return out

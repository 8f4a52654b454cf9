"""What each cell of a quartet was and took: costs, roofline, fidelity, consumption, and the proof of its levels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.engines.base import INSPECTOR_FILE
from harness.measure.cell import Cell, CellResult
from harness.measure.protocol import Measurement
from harness.measure.telemetry import Telemetry
from harness.results.analyse import Analysis
from harness.results.roofline import cell_metrics
from harness.stats.roles import ROLES, prefix_of
from harness.system.counts import counted


def cost_metrics(prefix: str, cell: Cell, batch_size: int) -> dict[str, float]:
    """Return what a cell costs on paper and to build, and what its router makes of that."""
    accounting, router = cell.accounting, cell.router
    out = {
        f"{prefix}model/params_m": accounting.params / 1e6,
        f"{prefix}model/gmacs": router.gmacs(accounting.stage_gmacs, batch_size),
        f"{prefix}build/export_s": cell.export_s,
        f"{prefix}build/engine_s": cell.engine_s,
        f"{prefix}build/engine_mb": cell.engine_mb,
        f"{prefix}build/cache_hit": float(cell.cache_hit),
    }
    if counts := precision_counts(cell):
        out[f"{prefix}build/layers_in_precision"], out[f"{prefix}build/layers_weighted"] = map(float, counts)
    routing = router.cost_metrics(accounting.stage_gmacs, batch_size)
    return out | {f"{prefix}{name}": value for name, value in routing.items()}


def precision_counts(cell: Cell) -> tuple[int, int] | None:
    """Return how many convolutions and products compute in the cell's precision, of how many; None: all, or unknown."""
    proofs = [artifact.proof for artifact in cell.artifacts]
    if not all("layers_in_precision" in proof for proof in proofs):
        return None
    computed, weighted = (
        sum(int(proof[name]) for proof in proofs) for name in ("layers_in_precision", "layers_weighted")
    )
    return computed, weighted


def calibration_notes(cells: Mapping[str, Cell]) -> list[str]:
    """Return what to know of cells whose precision was calibrated: on what, and which layers have it."""
    notes = []
    for role, cell in cells.items():
        calibration = cell.levels.calibration
        if calibration is None:
            continue
        precision, counts = cell.levels.precision.name, precision_counts(cell)
        if cell.labelled is None:
            notes.append(f"{precision}: its scales are of synthetic {cell.sample}s, they say nothing about accuracy")
        else:
            found = counted(len(cell.labelled.calibration_images(calibration.images)), "validation image")
            notes.append(f"{precision}: calibrated on {found} ({calibration.method})")
        if counts is not None:
            left = [str(a.proof["layers_in_float"]) for a in cell.artifacts if a.proof["layers_in_float"]]
            why = f"; in float: {'; '.join(left)}" if left else ""
            notes.append(f"{role}: {precision} in {counts[0]} of {counts[1]} convolutions and products{why}")
    return list(dict.fromkeys(notes))


def roofline_metrics(
    role: str,
    cell: Cell,
    batch_size: int,
    measurement: Measurement | None = None,
    analysis: Analysis | None = None,
) -> dict[str, float]:
    """Return what a cell takes on paper, and where it was measured, how near that came to the machine's ceiling."""
    prefix = prefix_of(role)
    throughput_ips = analysis.metrics.get(f"{prefix}throughput/{analysis.primary}") if analysis is not None else None
    ceilings = measurement.ceilings if measurement is not None else None
    found = cell_metrics(cell.artifacts, cell.router, batch_size, throughput_ips, ceilings)
    return {f"{prefix}{name}": value for name, value in found.items()}


def fidelity_metrics(measured: Mapping[str, CellResult]) -> dict[str, float]:
    """Return how near each cell's outputs came to its own network's in fp32 eager; what does not apply is absent."""
    out: dict[str, float] = {}
    for role, cell in measured.items():
        values = asdict(cell.fidelity)
        values |= values.pop("routing")
        out |= {f"{prefix_of(role)}fidelity/{name}": value for name, value in values.items() if value is not None}
    return out


def consumption_metrics(measured: Mapping[str, CellResult]) -> dict[str, float]:
    """Return energy, memory, and speed without pauses of each cell; what the machine does not tell is absent."""
    out: dict[str, float] = {}
    consumption = {role: cell.consumption for role, cell in measured.items() if cell.consumption is not None}
    for role, found in consumption.items():
        named = {
            "gpu/energy_j_per_image": found.energy_j_per_image,
            "gpu/peak_memory_mb": found.device_memory_mb,
            "host/peak_memory_mb": found.host_memory_mb,
        }
        if found.sustained is not None:
            named |= {
                "throughput/sustained": found.sustained.throughput_ips,
                "gpu/sustained_clock_mhz": found.sustained.clock_mhz,
                **{f"gpu/sustained_{cap}_capped": share for cap, share in found.sustained.capped.items()},
            }
        out |= {f"{prefix_of(role)}{name}": value for name, value in named.items() if value is not None}
    speeds = {role: found.sustained.throughput_ips for role, found in consumption.items() if found.sustained}
    if set(speeds) == set(ROLES):
        out["interaction/sustained_factor"] = factor_of(speeds)
    return out


def clock_metrics(telemetry: Telemetry | None, roles: Iterable[str]) -> dict[str, float]:
    """Return the clock of each cell around its visits, and what held it down; absent where the driver does not tell."""
    if telemetry is None:
        return {}
    return {f"{prefix_of(role)}{name}": value for role in roles for name, value in telemetry.by_cell(role).items()}


def factor_of(values: Mapping[str, float]) -> float:
    """Return combined x baseline / (arch x hw) of the four cells' values."""
    return values["combined"] * values["baseline"] / (values["arch"] * values["hw"])


def degraded(cells: Mapping[str, Cell], measured: Mapping[str, CellResult]) -> list[str]:
    """Return every reason why a cell did less than requested, with the cells concerned.

    Loading a cell may show some; `measured` is empty where nothing was run.
    """
    by_reason: dict[str, list[str]] = {}
    for role, cell in cells.items():
        found = list(cell.degraded)
        if role in measured:
            found += [reason for reason in measured[role].loaded.degraded if reason not in found]
        for reason in found:
            by_reason.setdefault(reason, []).append(role)
    return [f"{', '.join(roles)}: {reason}" for reason, roles in by_reason.items()]


def inspections(cells: Mapping[str, Cell]) -> dict[str, Path]:
    """Return what engines tell of their layers, where they could, by artifact name."""
    out: dict[str, Path] = {}
    for role, cell in cells.items():
        for number, artifact in enumerate(cell.artifacts, start=1):
            if (artifact.path / INSPECTOR_FILE).is_file():
                stage = artifact.plan.stage or f"stage{number}"
                out[f"inspector/{role}-{stage}.json"] = artifact.path / INSPECTOR_FILE
    return out


def cell_details(cell: Cell) -> dict[str, Any]:
    """Return the proof of what a cell was: levels, engine, nodes, precision in use."""
    return {
        "engine": cell.engine,
        "levels": asdict(cell.levels) | {"precision": cell.levels.precision.name},
        "accounting": asdict(cell.accounting),
        "stages": [
            {
                "stage": artifact.plan.stage or f"stage{number}",
                "graph_sha256": artifact.plan.graph.sha256,
                "artifact_key": artifact.key,
                "artifact_sha256": artifact.files.get(artifact.main_file, ""),
                "batch": asdict(artifact.plan.batch),
                "inputs": [str(spec) for spec in artifact.plan.graph.inputs],
                "outputs": [str(spec) for spec in artifact.plan.graph.outputs],
                "proof": dict(artifact.proof),
                "degraded": list(artifact.degraded),
            }
            for number, artifact in enumerate(cell.artifacts, start=1)
        ],
        "policy": asdict(cell.router) or None,  # the router's fields
    }

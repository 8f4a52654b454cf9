"""Measurement -> the numbers of a quartet: throughputs, percentiles, gains and factors, by the contract's names.

Every number here can be recomputed from `samples.parquet`, and what `interaction.json` says is known of other builds
and restarts: a block's value is images / seconds, a cell's
throughput is the geometric mean over blocks (builds and restarts count equally, as in the factor), gains are ratios of
throughputs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness.config import ProtocolConfig
from harness.measure.protocol import Measurement
from harness.measure.samples import Samples
from harness.measure.stopping import host_bound, host_shares, judged_on
from harness.stats import Interaction, coursework_factor, coursework_verdict, percentile
from harness.stats.intervals import MINIMUM_BLOCKS, block_shares, mean_interval
from harness.stats.roles import ROLES, prefix_of
from harness.stats.stationarity import carry_over

SHORT = {"device": "device", "wall": "wall", "end_to_end": "e2e"}  # boundaries in metric names of the quartet
PERCENTILES = (50, 90, 95, 99)


@dataclass(frozen=True)
class Analysis:
    """Everything computed from one measurement, whatever its scenario."""

    metrics: Mapping[str, float]
    interactions: Mapping[str, Interaction]  # by boundary; empty without a full quartet
    primary: str
    verdict: str | None
    host_bound: bool | None  # None where there is no device boundary to tell
    coursework: Mapping[str, Any] | None = None  # factor and verdict of the usual recipe on the same executables
    tags: Mapping[str, str] = field(default_factory=dict)  # that only this scenario has


def analyse(measurement: Measurement, settings: ProtocolConfig) -> Analysis:
    """Return metrics, interactions and verdict of one measurement."""
    samples = measurement.samples
    interactions = {}
    if len(samples.roles) == 4:
        interactions = {boundary: judged_on(samples, boundary, settings) for boundary in samples.boundaries}
    metrics: dict[str, float] = {}
    for boundary in samples.boundaries:
        metrics |= _speeds(measurement, boundary, interactions.get(boundary), settings.level)
    if "wall" in samples.boundaries:
        for role in samples.roles:
            metrics |= _latency(prefix_of(role), samples.milliseconds(role, "wall"))
    metrics |= _protocol(measurement)
    shares = host_shares(samples)
    if shares:
        metrics["measure/host_share"] = max(shares.values())
        metrics |= {
            f"{prefix_of(role)}measure/host_share": share for role, share in shares.items() if role != "combined"
        }
    primary = interactions.get(measurement.primary)
    if primary is not None:
        metrics["interaction/p_value"] = primary.p_value
    return Analysis(
        metrics={name: float(value) for name, value in metrics.items() if math.isfinite(value)},
        interactions=interactions,
        primary=measurement.primary,
        verdict=str(primary.verdict) if primary else None,
        coursework=_coursework(measurement),
        host_bound=host_bound(samples) if shares or samples.launch_bound else None,
    )


def _speeds(measurement: Measurement, boundary: str, interaction: Interaction | None, level: float) -> dict[str, float]:
    """Return throughputs, gains and factor on one boundary; the primary one's also under the short names.

    Gains and factor have intervals at `level`.
    """
    samples, roles = measurement.samples, measurement.samples.roles
    logs = np.log(samples.throughput(boundary))
    means = dict(zip(roles, np.exp(block_shares(*samples.replication(boundary)) @ logs).tolist(), strict=True))
    out = {f"{prefix_of(role)}throughput/{boundary}": value for role, value in means.items()}
    gains = {role: means[role] / means["baseline"] for role in means if role != "baseline"}
    if interaction is not None:
        gains["expected"] = gains["arch"] * gains["hw"]
    gains |= _gain_intervals(samples, boundary, logs, gains, level)
    for name in (f"{SHORT[boundary]}_", *([""] if boundary == measurement.primary else [])):
        out |= {f"gain/{name}{key}": value for key, value in gains.items()}
        if interaction is not None:
            out |= {f"interaction/{name}{key}": getattr(interaction, key) for key in ("factor", "low", "high")}
    return out


def _gain_intervals(
    samples: Samples, boundary: str, logs: np.ndarray, gains: Mapping[str, float], level: float
) -> dict[str, float]:
    """Return `arch_low`, `arch_high` and so on of measured gains, from the scatter of ln(gain) over the blocks.

    `logs` is ln(throughput), [blocks, cells]. None with fewer blocks than can show their own noise. Of one restart a
    gain has half of the variance that is known of the factor between restarts: two cells instead of four; of one build
    it has that of its own cells.
    """
    out: dict[str, float] = {}
    if len(logs) < MINIMUM_BLOCKS:
        return out
    column = {role: logs[:, place] for place, role in enumerate(samples.roles)}
    spread = samples.restart_spread if len(set(samples.groups)) == 1 else None
    of_restarts = spread.half_width(level) / math.sqrt(2) if spread is not None else 0.0
    for role in (role for role in gains if role in column):
        known = samples.build_spread((role, "baseline"))
        found = mean_interval(column[role] - column["baseline"], *samples.replication(boundary), known)
        of_builds = known.half_width(level) if known is not None and len(set(samples.builds)) == 1 else 0.0
        half = math.hypot(float(found.half_width(level)), of_restarts, of_builds)
        out |= {f"{role}_low": gains[role] * math.exp(-half), f"{role}_high": gains[role] * math.exp(half)}
    return out


def _protocol(measurement: Measurement) -> dict[str, float]:
    """Return how much was measured, and what the machine did meanwhile."""
    samples = measurement.samples
    out = {
        "measure/blocks": samples.blocks,
        "measure/restarts": measurement.restarts,
        "measure/builds": len(set(samples.builds)),
        "measure/seconds": measurement.seconds,
        "measure/design_quartets": measurement.side_by_side[0],
        "measure/design_cells": measurement.side_by_side[1],
        "measure/bring_up_s": measurement.bring_up_s,
        "measure/half_width": measurement.standing.half_width,
    }
    carried = carry_over(samples.throughput(measurement.primary), samples.previous(measurement.primary))
    if carried is not None:
        out |= {"measure/carry_over_f": carried.f, "measure/carry_over_p": carried.p_value}
    if measurement.telemetry is not None:
        out |= measurement.telemetry.metrics()
        out["measure/discarded_blocks"] = samples.discarded
    return out


def _latency(prefix: str, milliseconds: np.ndarray) -> dict[str, float]:
    """Return mean and percentiles of the iterations; a percentile with too few samples is absent."""
    out = {f"{prefix}latency_ms/mean": float(milliseconds.mean())}
    for q in PERCENTILES:
        found = percentile(milliseconds, q / 100)
        if found is not None:
            out[f"{prefix}latency_ms/p{q}"] = found.value
    return out


def _coursework(measurement: Measurement) -> dict[str, Any] | None:
    """Return what the usual recipe says: mean of its iterations a cell, one ratio, thresholds 0.95 and 1.05."""
    found = {role: cell.coursework_ms for role, cell in measurement.cells.items() if cell.coursework_ms}
    if len(found) != 4:
        return None
    batch = measurement.samples.batch_size
    means = {role: batch * len(ms) / (sum(ms) / 1e3) for role, ms in found.items()}  # images/s
    ordered = [means[role] for role in ROLES]
    return {
        "throughput": means,
        "factor": coursework_factor(ordered),
        "verdict": str(coursework_verdict(ordered)),
    }

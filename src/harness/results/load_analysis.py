"""A quartet under load -> its numbers: throughput a cell, query latencies, load figures, the factor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from harness.config import ProtocolConfig
from harness.results.analyse import PERCENTILES, Analysis
from harness.serving.measure import CellUnderLoad, LoadMeasurement
from harness.stats import Interaction, estimate, percentile
from harness.stats.intervals import block_shares, mean_interval
from harness.stats.roles import ROLES, prefix_of
from harness.system.counts import counted

MINIMUM_REPEATS = 3  # of an interval


def analyse_load(
    measurement: LoadMeasurement, settings: ProtocolConfig, boundary: str, compared: bool = True
) -> Analysis:
    """Return metrics, factor and LoadGen's verdict.

    Args:
        measurement: of one, two or four cells.
        settings: margin and level of the verdict.
        boundary: what a repeat's throughput is of, as the metrics' names have it.
        compared: whether the throughputs of cells are compared: where all complete what arrives, they say nothing.

    """
    cells = measurement.cells
    metrics: dict[str, float] = {
        "measure/seconds": measurement.seconds,
        "measure/blocks": len(cells["baseline"].repeats),
        "measure/restarts": measurement.restarts,
    }
    if measurement.host_shares:
        metrics["measure/host_share"] = max(measurement.host_shares)
    for role, cell in cells.items():
        metrics |= {f"{prefix_of(role)}{name}": value for name, value in cell_metrics(cell, boundary).items()}
    means = {role: mean_rate(cell) for role, cell in cells.items() if throughputs(cell)}
    gains = {role: means[role] / means["baseline"] for role in means if role != "baseline" and "baseline" in means}
    gains = gains if compared else {}
    interaction = _interaction(measurement, settings) if compared else None
    if interaction is not None:
        gains["expected"] = gains["arch"] * gains["hw"]
        for name in (f"{boundary}_", ""):
            metrics |= {f"interaction/{name}{key}": getattr(interaction, key) for key in ("factor", "low", "high")}
        metrics["interaction/p_value"] = interaction.p_value
        metrics["measure/half_width"] = interaction.half_width
    for name in (f"{boundary}_", ""):
        metrics |= {f"gain/{name}{key}": value for key, value in gains.items()}
    if measurement.telemetry is not None:
        metrics |= measurement.telemetry.metrics()
    problems = {role: problem for role, cell in cells.items() if (problem := _problem(cell))}
    invalid = "INVALID: " + "; ".join(f"{role}: {text}" for role, text in problems.items())
    return Analysis(
        metrics={name: float(value) for name, value in metrics.items() if math.isfinite(value)},
        interactions={boundary: interaction} if interaction is not None else {},
        primary=boundary,
        verdict=str(interaction.verdict) if interaction is not None else None,
        host_bound=measurement.host_bound if measurement.host_shares else None,
        tags={"loadgen": invalid if problems else "VALID"},
    )


def throughputs(cell: CellUnderLoad) -> list[float]:
    """Return the throughput of every repeat; nothing if one of them has none, since the rest would be a selection."""
    found = [repeat.throughput_per_s for repeat in cell.repeats]
    return [] if None in found else [value for value in found if value is not None]


def mean_rate(cell: CellUnderLoad) -> float:
    """Return the geometric mean of the repeats' throughputs, restarts counted equally, as the factor counts them."""
    restarts = np.array([repeat.restart for repeat in cell.repeats])
    return float(np.exp(block_shares(restarts, np.zeros_like(restarts)) @ np.log(throughputs(cell))))


def rate_interval(rates: Sequence[float], restarts: Sequence[int], level: float = 0.95) -> tuple[float, float] | None:
    """Return the interval of the geometric mean over repeats; None where there are too few of them to have one.

    Args:
        rates: the throughput of each repeat.
        restarts: the restart that each of them ran in, numbered from 0.
        level: of the interval.
    """
    if len(rates) < MINIMUM_REPEATS:
        return None
    found = mean_interval(np.log(np.array(rates)), np.array(restarts))
    mean, half = float(found.mean), float(found.half_width(level))
    return (math.exp(mean - half), math.exp(mean + half)) if math.isfinite(half) else None


def cell_metrics(cell: CellUnderLoad, boundary: str) -> dict[str, float]:
    """Return the metrics of one cell, without its prefix; figures are of the tests at the bound, means over repeats."""
    out: dict[str, float] = {}
    if throughputs(cell):
        out[f"throughput/{boundary}"] = mean_rate(cell)
    deciding = [repeat.deciding for repeat in cell.repeats]
    latency_ms = np.concatenate([result.record.latency_s for result in deciding]) * 1e3
    latency_ms = latency_ms[~np.isnan(latency_ms)]
    if len(latency_ms):
        out["latency_ms/mean"] = float(latency_ms.mean())
    for q in PERCENTILES:
        value = percentile(latency_ms, q / 100)
        if value is not None:
            out[f"latency_ms/p{q}"] = value.value
    figures = [asdict(result.figures) for result in deciding if result.figures is not None]
    for name in figures[0] if figures else ():
        values = [figure[name] for figure in figures if figure[name] is not None]
        if values:
            out[f"load/{name}"] = float(np.mean(values))
    if (ratio := slowdown(cell)) is not None:
        out["load/slowdown"] = ratio
    out["load/loadgen_lag_ms"] = float(np.mean([result.lag_ms for result in deciding]))
    out["load/shed"] = float(sum(result.record.shed for result in deciding))
    out["load/max_batch_size"] = float(cell.variant.plan.policy.max_batch_size)
    out["fidelity/served"] = cell.served.largest_error
    shares = [result.record.early_share for result in deciding if result.figures is not None]
    if len(cell.variant.plan.policies) > 1 and shares:
        gmacs = cell.variant.cell.accounting.stage_gmacs
        out |= cell.served.router.load_metrics(float(np.mean(shares)), gmacs, cell.saturated_per_s)
    return out


def slowdown(cell: CellUnderLoad) -> float | None:
    """Return how much longer batches took under load than without LoadGen, at their sizes; None for several stages.

    Beyond 1 it is what serving costs the network: the thread that launches also takes requests in and answers them,
    and LoadGen's process may want its core. Where cells of a quartet differ in it, their factor is one of the server
    as well.
    """
    if len(cell.variant.plan.policies) > 1:
        return None
    alone_ms = {size: float(np.median(times)) for size, times in cell.load.service_ms.items()}
    taken_ms = expected_ms = 0.0
    for batches in (repeat.deciding.batches for repeat in cell.repeats):
        known = np.isin(batches.executed, list(alone_ms))
        taken_ms += float((batches.completed_s - batches.started_s)[known].sum()) * 1e3
        expected_ms += sum(alone_ms[int(size)] for size in batches.executed[known])
    return taken_ms / expected_ms if expected_ms else None


def _interaction(measurement: LoadMeasurement, settings: ProtocolConfig) -> Interaction | None:
    """Return the factor of throughput; y = ln(rate) of a repeat, whose four cells see the same draw of arrivals."""
    columns = [throughputs(measurement.cells[role]) for role in ROLES if role in measurement.cells]
    if len(columns) != len(ROLES) or not all(columns):
        return None
    return estimate(
        np.array(columns).T,
        [repeat.restart for repeat in measurement.cells["baseline"].repeats],
        settings.margin,
        settings.level,
        host_bound=measurement.host_bound,
    )


def _problem(cell: CellUnderLoad) -> str:
    found = [repeat.problem for repeat in cell.repeats if repeat.problem]
    return f"{found[0]} ({len(found)} of {counted(len(cell.repeats), 'repeat')})" if found else ""

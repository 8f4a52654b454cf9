"""The arrival rate that one GPU sustains under a bound: measured at the study's own, interpolated at another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import isotonic_regression

from harness.commands.capacity.curves import CurveCell
from harness.system.errors import UserError


@dataclass(frozen=True)
class SustainedRate:
    """The highest rate (images/s) of one GPU within `slo_ms`, with the measured interval where there is one."""

    cell: str
    slo_ms: float
    rate_per_s: float
    low_per_s: float | None
    high_per_s: float | None
    interpolated: bool


def sustained(cell: CurveCell, measured_slo_ms: float, slo_ms: float) -> SustainedRate:
    """Return what a GPU sustains within `slo_ms`.

    At another bound than the measured one the valid points decide: latency is taken as non-decreasing in the rate
    (isotonic least squares; noise may say otherwise from point to point) and linear between two measured rates,
    and never continued beyond them. The interval is then the measured one, in proportion.

    Raises:
        UserError: no rate met the bound, or the points do not reach it.

    """
    if cell.at_slo_per_s <= 0:
        raise UserError(
            f"cell {cell.name}: no rate within its bound of {measured_slo_ms:g} ms was found, so there is no plan "
            "(was it searched for? scenario=server without scenario.rate_per_s does)"
        )
    rate = cell.at_slo_per_s
    if slo_ms != measured_slo_ms:
        rate = _interpolated(cell, measured_slo_ms, slo_ms)
    share = rate / cell.at_slo_per_s
    low = None if cell.low_per_s is None else cell.low_per_s * share
    high = None if cell.high_per_s is None else cell.high_per_s * share
    return SustainedRate(cell.name, slo_ms, rate, low, high, slo_ms != measured_slo_ms)


def _interpolated(cell: CurveCell, measured_slo_ms: float, slo_ms: float) -> float:
    points = [(point.rate_per_s, point.latency_ms) for point in cell.points if point.valid]
    if not points:
        raise UserError(
            f"cell {cell.name} has no valid point: only its own bound of {measured_slo_ms:g} ms can be asked for"
        )
    measured = np.array(points, dtype=float)
    rates, which, repeats = np.unique(measured[:, 0], return_inverse=True, return_counts=True)
    means = np.bincount(which, weights=measured[:, 1]) / repeats  # repeats of one rate are one point
    latencies = np.asarray(isotonic_regression(means, weights=repeats).x)
    if not latencies[0] <= slo_ms <= latencies[-1]:
        raise UserError(
            f"cell {cell.name}: a bound of {slo_ms:g} ms was not measured. Its valid points cover {latencies[0]:.4g} "
            f"to {latencies[-1]:.4g} ms; ask for one of these or for the study's own {measured_slo_ms:g} ms, "
            f"or measure again with scenario.slo_ms={slo_ms:g}"
        )
    last = int(np.searchsorted(latencies, slo_ms, side="right")) - 1  # the highest rate within the bound
    if last == len(rates) - 1:
        return float(rates[last])
    share = (slo_ms - latencies[last]) / (latencies[last + 1] - latencies[last])
    return float(rates[last] + share * (rates[last + 1] - rates[last]))

"""What was measured under load, cell by cell: the record of a quartet's `serving.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.optimize import isotonic_regression

from harness.serving.policy import BatchPolicy
from harness.system.errors import UserError

BASELINE = "baseline"
CELLS = (BASELINE, "arch", "hw", "combined")


@dataclass(frozen=True)
class CurvePoint:
    """One test at one arrival rate; `latency_ms` is at the study's percentile, None where it could not be told."""

    rate_per_s: float
    completed_per_s: float
    latency_ms: float | None
    valid: bool
    reason: str


@dataclass(frozen=True)
class CurveCell:
    """One cell under load on one GPU.

    `at_slo_per_s` is the highest arrival rate that met the study's bound (0: none did), with its interval where
    there is one; `service_ms` holds what single batches took the server, by their executed size, smallest first;
    `unmodelled` names settings of the measured batcher that the simulation knows nothing of.
    """

    name: str
    at_slo_per_s: float
    low_per_s: float | None
    high_per_s: float | None
    points: tuple[CurvePoint, ...]
    service_ms: Mapping[int, tuple[float, ...]]
    policy: BatchPolicy
    unmodelled: tuple[str, ...] = ()


@dataclass(frozen=True)
class Curves:
    """The cells of one quartet under one bound: `percentile` (in percent) of the latencies within `slo_ms`."""

    name: str
    slo_ms: float
    percentile: float
    cells: Mapping[str, CurveCell]
    device: str | None = None  # None: the file does not say what it was measured on

    @property
    def quantile(self) -> float:
        """Return the percentile as a share: 0.99 for 99."""
        return self.percentile / 100

    @property
    def percentile_name(self) -> str:
        """Return "p99" for 99."""
        return f"p{self.percentile:g}"


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

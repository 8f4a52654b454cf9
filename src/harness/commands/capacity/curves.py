"""What was measured under load, cell by cell: the record of a quartet's `serving.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.serving.policy import BatchPolicy

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

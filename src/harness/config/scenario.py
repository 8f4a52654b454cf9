"""The options of the group `scenario`."""

from __future__ import annotations

from dataclasses import dataclass

from harness.config.ranges import Ranges, at_least, between, positive


@dataclass
class ScenarioConfig:
    """How requests arrive. All but `fixed` come from MLPerf LoadGen."""

    name: str = "fixed"  # fixed | single_stream | offline | server
    rate_per_s: float | None = None  # server: requests a second; None: search for the highest that meets the bound
    slo_ms: float = 50.0  # server: the latency bound
    percentile: float = 99.0  # of the latencies that must be within the bound
    min_duration_s: float = 4.0  # of one LoadGen test; an overload below slo / min_duration is not seen (1% here)
    max_duration_s: float = 60.0  # no request is issued after it; a test that is cut short is INVALID
    min_queries: int | None = None  # of one LoadGen test; None: twice what the percentile needs
    repeats: int = 5  # LoadGen tests (searches) of each cell, interleaved
    budget_s: float | None = None  # of a quartet: no further restart that would not be over by then; None: all of them
    tolerance: float = 0.02  # the search stops when its bracket is this narrow, relative
    static_batch_sizes: list[int] | None = None  # tried where nothing batches; None: 1, batch_size / 4, batch_size
    sample_count: int = 64  # distinct images that the requests are for
    seed: int = 0  # of arrivals and of the images' order; repeat r uses seed + r


# of all scenarios with requests; `fixed` has none, and takes none of these
SCENARIO_RANGES: Ranges = {
    "rate_per_s": positive(),
    "slo_ms": positive(),
    "percentile": between(0, 100, ", for example 99"),
    "min_duration_s": positive(),
    "max_duration_s": positive(),
    "min_queries": at_least(1),
    "repeats": at_least(1),
    "budget_s": positive(),
    "tolerance": positive(),
    "sample_count": at_least(1),
    "seed": at_least(0),
}

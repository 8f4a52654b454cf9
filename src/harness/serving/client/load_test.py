"""What is asked of LoadGen: a test in our words, and in its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class LoadTest:
    """One test."""

    scenario: str  # LoadGen's, in lower case: single_stream | offline | server
    expected_per_s: float  # the rate of the arrivals; else what the server is expected to do, to size the test
    percentile: float = 99.0
    slo_ms: float = 50.0
    give_up_s: float | None = None  # whoever has waited longer is shed with all others; None: nobody is
    min_duration_s: float = 2.0
    max_duration_s: float = 60.0
    min_queries: int = 1
    sample_count: int = 64
    seed: int = 0  # of the arrivals' times, and of the order of the images


def settings(test: LoadTest) -> Any:
    """Return LoadGen's settings of a test."""
    import mlperf_loadgen as loadgen

    out = loadgen.TestSettings()
    out.scenario = getattr(loadgen.TestScenario, test.scenario.title().replace("_", ""))
    out.mode = loadgen.TestMode.PerformanceOnly
    out.min_duration_ms = round(test.min_duration_s * 1e3)
    out.max_duration_ms = round(test.max_duration_s * 1e3)
    out.min_query_count = test.min_queries
    of_a_scenario = {  # each scenario has some of these, under its own prefix
        "target_qps": test.expected_per_s,
        "expected_qps": test.expected_per_s,
        # a scenario without a rate makes as many requests beforehand as fit at this latency: at half of it they last
        "expected_latency_ns": round(0.5e9 / test.expected_per_s),
        "target_latency_ns": round(test.slo_ms * 1e6),
        "target_latency_percentile": test.percentile / 100,
    }
    for name, value in of_a_scenario.items():
        if hasattr(out, f"{test.scenario}_{name}"):
            setattr(out, f"{test.scenario}_{name}", value)
    out.schedule_rng_seed = out.sample_index_rng_seed = out.qsl_rng_seed = test.seed
    return out

"""`serving.json`: what a cell serves at which latency, and how long its batches take; `harness.capacity` reads it.

    {"slo_ms", "percentile", "cells": {"baseline": {"at_slo_per_s", "low_per_s", "high_per_s",
      "points": [{"rate_per_s", "completed_per_s", "latency_ms", "valid", "reason"}],
      "service_ms": {"8": [one batch, ...]}, "policy": {"max_batch_size", "max_queue_delay_us", "static"}}}}

What was not found is null. A latency at which requests were shed is null too: it had no end.
"""

from __future__ import annotations

import json
import math
from typing import Any

from harness.config import HarnessConfig
from harness.results.load_analysis import geometric_mean, rate_interval, throughputs
from harness.serving.measure import CellUnderLoad, LoadMeasurement
from harness.serving.serving_cell import point


def serving_json(measurement: LoadMeasurement, config: HarnessConfig) -> str:
    """Return the file's text."""
    cells = {role: _cell(cell) for role, cell in measurement.cells.items()}
    content = {
        "scenario": config.scenario.name,
        "slo_ms": config.scenario.slo_ms,
        "percentile": config.scenario.percentile,
        "cells": cells,
    }
    return json.dumps(content, indent=1, allow_nan=False)


def _cell(cell: CellUnderLoad) -> dict[str, Any]:
    searched = all(repeat.found is not None for repeat in cell.repeats)
    rates = throughputs(cell) if searched else []
    interval = rate_interval(rates, [repeat.restart for repeat in cell.repeats]) if rates else None
    if interval is None and rates:  # too few repeats for an interval: the brackets of the searches
        founds = [repeat.found for repeat in cell.repeats if repeat.found is not None]
        above = [found.failed.arrived_per_s if found.failed else math.inf for found in founds]
        interval = min(rates), max(*rates, *above)
    policy = cell.variant.plan.policy
    return {
        "at_slo_per_s": geometric_mean(rates) if rates else None,
        "low_per_s": _number(interval[0]) if interval else None,
        "high_per_s": _number(interval[1]) if interval else None,
        "points": [
            {
                "rate_per_s": result.arrived_per_s,
                "completed_per_s": result.completed_per_s,
                "latency_ms": _number(point(result).latency_ms),
                "valid": result.valid,
                "reason": result.reason,
                "repeat": number,
            }
            for number, repeat in enumerate(cell.repeats)
            for result in repeat.results
        ],
        "service_ms": {str(size): list(ms) for size, ms in cell.load.service_ms.items()},
        "policy": {
            "max_batch_size": policy.max_batch_size,
            "max_queue_delay_us": policy.max_queue_delay_us,
            "preferred_batch_sizes": list(policy.preferred_batch_sizes),
            "buckets": list(policy.buckets),
            "static": policy.static,
        },
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None

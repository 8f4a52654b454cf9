"""One of several writers: logs its share of a sweep's quartets through the same calls as a job of the harness.

Every value of a quartet follows from its number, so that each row can be checked when it is read back.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

METRICS = 160  # what a quartet with all four cells, three boundaries and a roofline leaves: 150 to 170
PARAMS = 45
VERDICTS = ("amplify", "conflict", "independent", "inconclusive")


@dataclass(frozen=True)
class Share:
    """What one writer does."""

    writer: int
    numbers: tuple[int, ...]  # the quartets it logs
    sweep_id: str
    environment: dict[str, str]
    samples: Path
    folder: Path


def metrics_of(number: int) -> dict[str, float]:
    """Return the metrics of a quartet: exact in binary, so that equality can be asked for."""
    named = {
        "interaction/factor": 1 + (number % 97) / 1024,
        "interaction/low": 0.9375 + (number % 97) / 1024,
        "interaction/high": 1.0625 + (number % 97) / 1024,
        "interaction/p_value": (1 + number) / 4096,
        "gain/arch": 1.25, "gain/hw": 1.5, "gain/expected": 1.875, "gain/combined": 1.875 * (1 + (number % 97) / 1024),
    }  # fmt: skip
    for role in ("", "baseline/", "arch/", "hw/"):
        named |= {f"{role}throughput/wall": 100 + number / 8, f"{role}latency_ms/p50": 10.0 + number / 1024}
    return named | {f"more/{index}": number + index / 256 for index in range(METRICS - len(named))}


def params_of(number: int) -> dict[str, object]:
    """Return the params of a quartet."""
    named: dict[str, object] = {
        "model": "densenet121", "arch": f"arch{number % 20}", "hw": f"hw{number // 20 % 10}", "reference": "engine",
        "batch_size": 2 ** (number // 200 % 10), "engine": "onnxruntime", "precision": "fp32", "protocol.level": 0.95,
    }  # fmt: skip
    return named | {f"option.{index}": index for index in range(PARAMS - len(named))}


def name_of(number: int) -> str:
    """Return the run name of a quartet: no two are the same."""
    params = params_of(number)
    return f"{params['arch']} x {params['hw']} b{params['batch_size']}"


def write(share: Share) -> list[float]:
    """Log the share; return the seconds that each quartet took."""
    os.environ.update(share.environment)
    from harness.config import TrackingConfig
    from harness.results.row import QuartetRecord
    from harness.tracking import finish, log_quartet, open_store, start_quartet

    store = open_store(TrackingConfig())
    own = share.folder / f"writer{share.writer}"
    own.mkdir()
    for name in ("interaction.json", "environment.json", "config.yaml"):
        (own / name).write_text(json.dumps({name: ["x" * 60] * 60}))
    artifacts = {name: own / name for name in ("interaction.json", "environment.json", "config.yaml")}
    artifacts["samples.parquet"] = share.samples
    seconds = []
    for number in share.numbers:
        began = time.perf_counter()
        tags = {"quartet_key": f"key-{number}", "gpu": "none", "boundary": "wall"}
        run_id = start_quartet(store, share.sweep_id, name_of(number), params_of(number), tags)
        verdict = {"verdict": VERDICTS[number % 4], "boundary": "wall", "converged": "true", "engine_version": "1"}
        log_quartet(store, run_id, QuartetRecord(metrics=metrics_of(number), tags=verdict, artifacts=artifacts))
        finish(store, run_id, "FINISHED")
        seconds.append(time.perf_counter() - began)
    return seconds

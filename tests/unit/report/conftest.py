"""Studies in memory and in a folder, made of rows as the store holds them."""

from __future__ import annotations

import math

import numpy as np
import pandas
import pytest


def _row(arch="grouped", hw="fusion", batch=4, factor=0.8, half=0.02, speeds=(100.0, 150.0, 300.0, 360.0), **values):
    verdict = "conflict" if factor * math.exp(half) < 0.95 else "inconclusive"
    row = {
        "run_id": f"{arch}-{hw}-{batch}-{values.get('engine', 'onnxruntime')}", "run_name": f"{arch} x {hw} b{batch}",
        "status": "FINISHED", "model": "densenet_tiny", "weights": "random (seed 0)", "image_size": "64",
        "arch": arch, "hw": hw, "batch_size": str(batch), "engine": "onnxruntime", "engine_version": "1.0",
        "reference": "engine", "scenario": "fixed", "precision": "fp32", "boundary": "wall", "gpu": "none",
        "protocol.level": "0.95", "protocol.margin": "0.05", "converged": "true", "verdict": verdict,
        "interaction/factor": factor, "interaction/low": factor * math.exp(-half),
        "interaction/high": factor * math.exp(half), "interaction/p_value": 1e-6 if verdict == "conflict" else 0.5,
    }  # fmt: skip
    for prefix, ips in zip(("baseline/", "arch/", "hw/", ""), speeds, strict=True):
        row |= {
            f"{prefix}throughput/wall": ips, f"{prefix}latency_ms/p50": 1e3 * batch / ips,
            f"{prefix}latency_ms/p99": 2e3 * batch / ips, f"{prefix}host/peak_memory_mb": 500.0 + ips,
        }  # fmt: skip
    gains = {"arch": speeds[1] / speeds[0], "hw": speeds[2] / speeds[0], "combined": speeds[3] / speeds[0]}
    gains["expected"] = gains["arch"] * gains["hw"]
    return {**row, **{f"gain/{key}": value for key, value in gains.items()}, **values}


@pytest.fixture(scope="session")
def row():
    """Return a function: row("grouped", "fp16", batch=8, **{"arch.grouped.groups": "2"}) -> one quartet's values."""
    return _row


@pytest.fixture(scope="session")
def frame():
    """Return a function: frame(row(...), ...) -> the table that `harness.load` would give."""
    return lambda *rows: pandas.DataFrame(list(rows))


@pytest.fixture
def folder(tmp_path):
    """Return a function: folder("before", row(...), ...) -> a study's folder, samples of 30 blocks a cell included."""

    def write(name, *rows, sd=0.002, samples=True):
        place = tmp_path / name
        place.mkdir()
        pandas.DataFrame(list(rows)).to_csv(place / "results.csv", index=False)
        parts = []
        for number, one in enumerate(rows):
            rng = np.random.default_rng(number)
            for prefix, cell in (("baseline/", "baseline"), ("arch/", "arch"), ("hw/", "hw"), ("", "combined")):
                mean_ms = 1e3 * int(one["batch_size"]) / one[f"{prefix}throughput/wall"]
                for block in range(30):
                    ms = mean_ms * np.exp(sd * rng.normal()) * np.exp(0.01 * rng.normal(size=4))
                    parts.append({"cell": cell, "block": block, "milliseconds": ms, "run_id": one["run_id"]})
        if samples:
            timed = pandas.DataFrame(parts).explode("milliseconds").astype({"milliseconds": float})
            timed.assign(build=0, restart=0, order=0, boundary="wall").to_parquet(place / "samples.parquet")
        return place

    return write

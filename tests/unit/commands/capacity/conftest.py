"""Curves for the capacity tests: written by a server that shares no code with the simulation under test."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest


class IndependentServer:
    """One GPU as a recursion over batches in numpy; the batch times have 3% of noise."""

    def __init__(self, fixed_ms, per_image_ms, size, delay_ms, static):
        self.fixed_ms, self.per_image_ms = fixed_ms, per_image_ms
        self.size, self.delay_ms, self.static = size, delay_ms, static
        self.service_ms: dict[int, list[float]] = {}

    def p99_ms(self, rate_per_s, rng, requests=40_000):
        arrivals = np.cumsum(rng.exponential(1000 / rate_per_s, requests))
        latencies, free, first = np.empty(requests), 0.0, 0
        while first < requests:
            full = arrivals[first + self.size - 1] if first + self.size <= requests else np.inf
            start = max(free, min(full, arrivals[first] + self.delay_ms))
            end = min(first + self.size, int(np.searchsorted(arrivals, start, side="right")))
            executed = self.size if self.static else end - first
            took = (self.fixed_ms + self.per_image_ms * executed) * np.exp(rng.normal(0, 0.03))
            self.service_ms.setdefault(executed, []).append(took)
            free = start + took
            latencies[first:end] = free - arrivals[first:end]
            first = end
        return float(np.quantile(latencies, 0.99))

    def cell(self, slo_ms, seed):
        """Search the highest rate within the bound as a study does, and return the cell of a serving.json."""
        rng, points = np.random.default_rng(seed), []
        low = 0.0
        high = 1000 * self.size / (self.fixed_ms + self.per_image_ms * self.size)
        for _ in range(11):
            rate = (low + high) / 2
            latency_ms = self.p99_ms(rate, rng)
            valid = latency_ms <= slo_ms
            reason = "" if valid else "bound missed"
            points.append(
                {
                    "rate_per_s": rate,
                    "completed_per_s": rate,
                    "latency_ms": latency_ms,
                    "valid": valid,
                    "reason": reason,
                }
            )
            low, high = (rate, high) if valid else (low, rate)
        policy = {"max_batch_size": self.size, "max_queue_delay_us": self.delay_ms * 1000, "static": self.static}
        service = {str(size): samples[:300] for size, samples in self.service_ms.items()}
        return {
            "at_slo_per_s": low, "low_per_s": low * 0.98, "high_per_s": low * 1.02,
            "points": points, "service_ms": service, "policy": policy,
        }  # fmt: skip


@pytest.fixture(scope="session")
def _served():
    servers = {
        "baseline": IndependentServer(9, 0.9, 8, 2, static=True),
        "arch": IndependentServer(7, 0.7, 1, 0, static=True),
        "hw": IndependentServer(2, 0.3, 32, 2, static=False),
        "combined": IndependentServer(1.5, 0.22, 32, 2, static=False),
    }
    cells = {name: server.cell(50, seed) for seed, (name, server) in enumerate(servers.items())}
    return {"slo_ms": 50.0, "percentile": 99.0, "cells": cells}


@pytest.fixture
def serving(_served):
    """The content of a serving.json, to be changed at will."""
    return copy.deepcopy(_served)


@pytest.fixture
def curves(serving):
    """The same, read."""
    from harness.commands.capacity.curves import parse

    return parse(json.dumps(serving), "serving.json")

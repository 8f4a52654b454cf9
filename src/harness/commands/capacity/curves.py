"""What was measured under load, cell by cell, read from a quartet's `serving.json`; what is wrong in it is named."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from scipy.optimize import isotonic_regression

from harness.results.units import SAMPLE
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
    sample: str = "image"  # what a request brings; files from before a network could take something else say nothing

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


def parse(text: str, name: str, device: str | None = None) -> Curves:
    """Return the curves in `text`; `name` says where they are from.

    Raises:
        UserError: no JSON, or a key that is missing or holds what it can't.

    """
    try:
        found = json.loads(text)
    except ValueError as error:
        raise UserError(f"{name}: not JSON: {error}") from error
    top = _Node(found, name, "")
    cells = top.child("cells")
    known = {key: _cell(key, cells.child(key)) for key in CELLS if key in cells.mapping}
    strange = sorted(set(cells.mapping) - set(CELLS))
    if strange or not known:
        raise cells.wrong(f"holds {', '.join(strange) or 'nothing'}; its cells are {', '.join(CELLS)}")
    percentile = top.number("percentile", above=0)
    if percentile >= 100:
        raise top.wrong(f"{percentile:g} is not a percentile: it must be below 100, such as 99", "percentile")
    sample = str(top.mapping.get(SAMPLE) or Curves.sample)
    return Curves(name, top.number("slo_ms", above=0), percentile, known, device, sample)


def _cell(name: str, node: _Node) -> CurveCell:
    rate = node.number_or_none("at_slo_per_s") or 0.0
    low, high = node.number_or_none("low_per_s"), node.number_or_none("high_per_s")
    if not (low or 0.0) <= rate <= (math.inf if high is None else high):
        raise node.wrong(f"{rate:g} is outside its own interval {low} to {high}", "at_slo_per_s")
    policy = _policy(node.child("policy"))
    service = _service(node.child("service_ms"))
    if policy.static and policy.max_batch_size not in service:
        text = f"has no samples of {policy.max_batch_size}, the static batch of its policy"
        raise node.wrong(f"{text}; it has {', '.join(map(str, service))}", "service_ms")
    points = tuple(_point(point) for point in node.items("points"))
    return CurveCell(name, rate, low, high, points, service, policy, _unmodelled(node.child("policy")))


def _point(node: _Node) -> CurvePoint:
    valid, reason = node.value("valid"), node.value("reason")
    if not isinstance(valid, bool):
        raise node.wrong(f"must be true or false, not {valid!r}", "valid")
    latency_ms = node.number("latency_ms") if valid else node.number_or_none("latency_ms")
    rate_per_s, completed_per_s = node.number("rate_per_s", above=0), node.number("completed_per_s")
    return CurvePoint(rate_per_s, completed_per_s, latency_ms, valid, str(reason or ""))


def _policy(node: _Node) -> BatchPolicy:
    size, static = node.value("max_batch_size"), node.value("static")
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise node.wrong(f"must be a whole number from 1 on, not {size!r}", "max_batch_size")
    if not isinstance(static, bool):
        raise node.wrong(f"must be true or false, not {static!r}", "static")
    preferred = node.mapping.get("preferred_batch_sizes") or []
    if not isinstance(preferred, list) or not all(type(number) is int and 1 <= number <= size for number in preferred):
        raise node.wrong(f"must be whole numbers from 1 to {size}, not {preferred!r}", "preferred_batch_sizes")
    return BatchPolicy(size, round(node.number("max_queue_delay_us")), tuple(sorted(preferred)), static)


def _unmodelled(node: _Node) -> tuple[str, ...]:
    """Return the settings that no `BatchPolicy` has; the buckets that batches are padded to are keys of service_ms."""
    modelled = {field.name for field in fields(BatchPolicy)}
    return tuple(sorted(key for key, value in node.mapping.items() if key not in modelled and value))


def _service(node: _Node) -> dict[int, tuple[float, ...]]:
    service = {}
    for key, samples in node.mapping.items():
        if not key.isdecimal() or int(key) < 1:
            raise node.wrong(f"{key!r} is not a batch size: they are whole numbers from 1 on")
        if not isinstance(samples, list) or not samples:
            raise node.wrong("must be a list of batch times in ms, at least one", key)
        numbers = tuple(_finite(sample) for sample in samples)
        if any(number is None or number <= 0 for number in numbers):
            raise node.wrong("must hold positive milliseconds only", key)
        service[int(key)] = tuple(number for number in numbers if number is not None)
    if not service:
        raise node.wrong("is empty: it must hold the measured batch times by executed batch size")
    return dict(sorted(service.items()))


@dataclass(frozen=True)
class _Node:
    """An object inside the file, with the path of keys that leads to it, so that errors can name the place."""

    found: Any
    file: str
    path: str

    @property
    def mapping(self) -> Mapping[str, Any]:
        if not isinstance(self.found, dict):
            raise self.wrong(f"must be an object, not {type(self.found).__name__}")
        return self.found

    def value(self, key: str) -> Any:
        if key not in self.mapping:
            raise self.wrong(f"is missing (found: {', '.join(map(str, self.mapping)) or 'nothing'})", key)
        return self.mapping[key]

    def child(self, key: str) -> _Node:
        return _Node(self.value(key), self.file, self._at(key))

    def items(self, key: str) -> list[_Node]:
        found = self.value(key)
        if not isinstance(found, list):
            raise self.wrong(f"must be a list, not {type(found).__name__}", key)
        return [_Node(item, self.file, f"{self._at(key)}[{index}]") for index, item in enumerate(found)]

    def number(self, key: str, above: float | None = None) -> float:
        found = _finite(self.value(key))
        if found is None or found < 0 or (above is not None and found <= above):
            least = "zero or more" if above is None else f"above {above:g}"
            raise self.wrong(f"must be a number, {least}, not {self.value(key)!r}", key)
        return found

    def number_or_none(self, key: str) -> float | None:
        return None if self.value(key) is None else self.number(key)

    def wrong(self, text: str, key: str = "") -> UserError:
        return UserError(f"{self.file}: {self._at(key) or 'the file'} {text}")

    def _at(self, key: str) -> str:
        return ".".join(part for part in (self.path, key) if part)


def _finite(found: Any) -> float | None:
    """Return a JSON number as float; None for anything else, and for NaN and infinity, which Python's json reads."""
    number = isinstance(found, (int, float)) and not isinstance(found, bool) and math.isfinite(found)
    return float(found) if number else None

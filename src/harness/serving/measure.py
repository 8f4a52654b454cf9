"""A quartet under load: each cell in a worker of its own, verified, one active at a time, repeats interleaved."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from harness.config import HarnessConfig
from harness.measure.bring_up import bring_up, warm_up
from harness.measure.cell import Loaded
from harness.measure.coordinator import Handle, workers
from harness.measure.progress import Progress
from harness.measure.settings import settled
from harness.measure.stopping import HOST_BOUND
from harness.measure.telemetry import Telemetry
from harness.measure.turns import BUSY, NOTE, admits_one_process, turns
from harness.measure.verify import Fidelity
from harness.serving.budget import restarts_within, shortened
from harness.serving.choose import choose
from harness.serving.loadgen import LoadResult
from harness.serving.requests import CellLoad, command_timeout_s, exit_bound_tests, request_of
from harness.serving.search import Found
from harness.serving.serving_cell import SearchResult, Served, ServingCell, point
from harness.serving.variants import Variant
from harness.system.errors import CellError


@dataclass(frozen=True)
class Repeat:
    """One LoadGen test of one cell, or one search."""

    restart: int
    results: tuple[LoadResult, ...]  # in the order they were measured
    found: Found | None = None  # of a search

    @property
    def deciding(self) -> LoadResult:
        """The test that the figures are of: the one at the bound, else the last."""
        if self.found is None or self.found.best is None:
            return self.results[-1]
        return next(r for r in self.results if r.test.expected_per_s == self.found.best.rate_per_s and r.valid)

    @property
    def throughput_per_s(self) -> float | None:
        """What the scenario measures: the rate at the bound, samples a second, or one over the mean latency."""
        if self.found is not None:
            return None if self.found.best is None else self.found.best.arrived_per_s
        result = self.results[0]
        if result.test.scenario == "single_stream":
            return 1e3 / result.mean_latency_ms
        return result.completed_per_s

    @property
    def problem(self) -> str:
        """Why this repeat is not valid; "" if it is."""
        if self.found is not None:
            return self.found.reason if self.found.best is None else ""
        return self.results[0].reason


@dataclass(frozen=True)
class CellUnderLoad:
    """Everything measured on one cell."""

    variant: Variant
    load: CellLoad
    served: Served
    repeats: tuple[Repeat, ...]
    exit_bounds_per_s: Mapping[str, float] = field(default_factory=dict)  # by who leaves: measured, none, all


@dataclass(frozen=True)
class LoadMeasurement:
    """A quartet under load."""

    cells: Mapping[str, CellUnderLoad]
    predicted_per_s: Mapping[str, Mapping[int, float]]  # of the static sizes that were tried, by role
    seconds: float
    host_shares: Mapping[str, float]  # 1 - device / wall of a batch, the most of all restarts; GPU only
    loaded: Mapping[str, Loaded]
    fidelity: Mapping[str, Fidelity]
    telemetry: Telemetry | None = None
    restarts: int = 1  # sets of processes that were measured
    note: str = ""

    @property
    def host_bound(self) -> bool:
        """Whether some cell waits for the host for more than a fifth of a batch."""
        waits = any(cell.no_device for cell in self.loaded.values())
        return waits or any(share > HOST_BOUND for share in self.host_shares.values())


def measure_under_load(
    variants: Mapping[str, Sequence[Variant]], config: HarnessConfig, device: str, progress: Progress
) -> LoadMeasurement:
    """Measure all cells (1, 2 or 4); raise CellError where one can't be trusted or fails while it serves."""
    if admits_one_process(device):
        return _measure(variants, config, device, progress, fresh=True)
    try:
        return _measure(variants, config, device, progress, fresh=False)
    except CellError as error:
        if BUSY not in str(error):
            raise
        return _measure(variants, config, device, progress, fresh=True)


def _measure(
    variants: Mapping[str, Sequence[Variant]], config: HarnessConfig, device: str, progress: Progress, fresh: bool
) -> LoadMeasurement:
    """Measure with a process a cell, or with one for each command where the GPU admits no second one (`fresh`)."""
    started = time.monotonic()
    settings = settled(config.protocol, device)

    def processes(chosen: Sequence[Variant]) -> AbstractContextManager[Mapping[str, Handle]]:
        specs = [variant.task.spec for variant in chosen]
        return turns(specs, ServingCell) if fresh else workers(specs, ServingCell)

    chosen, predicted = choose(variants, config, settings, processes, progress)
    order = np.random.default_rng(settings.seed)
    repeats: dict[str, list[Repeat]] = {role: [] for role in chosen}
    loads: dict[str, CellLoad] = {}
    bounds: dict[str, dict[str, float]] = {}
    shares: dict[str, float] = {}
    slowed = 0  # visits in which the chip was slowing down
    with Telemetry(device) as telemetry:
        for restart in restarts_within(config.scenario.budget_s, settings.restarts):
            with processes(list(chosen.values())) as handles:
                loaded, fidelity = bring_up([v.task for v in chosen.values()], handles, settings, progress)
                warm_up(handles, settings, device, progress)
                served: dict[str, Served] = {}
                for role, variant in chosen.items():
                    progress.stage("ready to serve", role)
                    served[role] = handles[role].ask("ready", variant.plan, settings.worker_timeout_s)
                    if served[role].degraded:
                        reasons = (*loaded[role].degraded, *served[role].degraded)
                        loaded[role] = replace(loaded[role], degraded=reasons)
                    timed = CellLoad.timed(variant, handles[role], config, settings.worker_timeout_s)
                    loads[role] = loads[role].with_another_set(timed) if role in loads else timed
                    waits = _host_share(handles[role], loaded[role], settings.worker_timeout_s)
                    if waits is not None:  # it differs from process to process
                        shares[role] = max(waits, shares.get(role, waits))
                first, last = (round(config.scenario.repeats * r / settings.restarts) for r in (restart, restart + 1))
                for repeat in range(first, last):
                    for role in (list(chosen)[index] for index in order.permutation(len(chosen))):
                        progress.stage(f"{config.scenario.name} {repeat + 1} of {config.scenario.repeats}", role)
                        began = time.monotonic()
                        one = _repeat(handles[role], chosen[role], loads[role], config, repeat, restart)
                        repeats[role].append(one)
                        slowed += telemetry.read(role, restart, repeat, time.monotonic() - began)
                        loads[role] = loads[role].after_search(one.found)
                for role, variant in chosen.items():
                    if variant.plan.tail is not None and role not in bounds:
                        progress.stage("bounds of the early exit", role)
                        bounds[role] = _exit_bounds(handles[role], variant, loads[role], config)
    return LoadMeasurement(
        cells={
            role: CellUnderLoad(variant, loads[role], served[role], tuple(repeats[role]), bounds.get(role, {}))
            for role, variant in chosen.items()
        },
        predicted_per_s=predicted,
        seconds=time.monotonic() - started,
        host_shares=shares,
        loaded=loaded,
        fidelity=fidelity,
        telemetry=telemetry,
        restarts=restart + 1,
        note="; ".join(
            note
            for note in (
                NOTE if fresh else "",
                telemetry.blind,
                _slowed(slowed),
                shortened(restart + 1, settings.restarts, config.scenario.budget_s),
            )
            if note
        ),
    )


def _slowed(visits: int) -> str:
    return f"{visits} visits measured on a chip that was slowing down" if visits else ""


def _repeat(
    handle: Handle, variant: Variant, load: CellLoad, config: HarnessConfig, repeat: int, restart: int
) -> Repeat:
    command, argument = request_of(variant, load, config, repeat)
    answer: Any = handle.ask(command, argument, command_timeout_s(config, command))
    if isinstance(answer, SearchResult):
        return Repeat(restart, answer.results, answer.found)
    return Repeat(restart, (answer,))


def _exit_bounds(handle: Handle, variant: Variant, load: CellLoad, config: HarnessConfig) -> dict[str, float]:
    """Return samples/s of a saturated early exit as it is, when nobody leaves and when everybody does."""
    out = {}
    for exits, argument in exit_bound_tests(variant, load, config).items():
        result: LoadResult = handle.ask("load_test", argument, command_timeout_s(config, "load_test"))
        out[exits] = point(result).completed_per_s
    return out


def _host_share(handle: Handle, loaded: Loaded, timeout_s: float) -> float | None:
    if not {"device", "wall"} <= set(loaded.boundaries):
        return None
    turn = handle.ask("slice", (("device", "wall"), 1, 0.25), timeout_s).milliseconds
    return 1 - float(np.median(turn["device"]) / np.median(turn["wall"]))

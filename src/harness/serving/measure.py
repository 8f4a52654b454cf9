"""A quartet under load: each cell in a worker of its own, verified, one active at a time, repeats interleaved."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from harness.config import HarnessConfig, ProtocolConfig
from harness.measure.bring_up import bring_up, warm_up
from harness.measure.cell import CellResult, Loaded, Turn
from harness.measure.coordinator import BUSY, ONE_AT_A_TIME, Handle, admits_one_process, turns, workers
from harness.measure.progress import Progress
from harness.measure.settings import resolve_protocol
from harness.measure.stopping import HOST_BOUND
from harness.measure.telemetry import Telemetry
from harness.measure.verify import Fidelity
from harness.serving.loadgen import LoadResult
from harness.serving.queueing import Found
from harness.serving.requests import (
    SIZES_TRIED,
    CellLoad,
    LoadScenario,
    Variant,
    bound_tests,
    command_timeout_s,
    resized,
)
from harness.serving.serving_cell import SearchResult, Served, ServingCell, point
from harness.system.counts import counted
from harness.system.errors import CellError

Processes = Callable[[Sequence[Variant]], AbstractContextManager[Mapping[str, Handle]]]


@dataclass(frozen=True)
class Repeat:
    """One LoadGen test of one cell, or one search."""

    restart: int
    results: tuple[LoadResult, ...]  # in the order they were measured; tests that ended too soon come before the last
    throughput_per_s: float | None  # what the scenario measures; None: a search that found no rate
    found: Found | None = None  # of a search

    @property
    def deciding(self) -> LoadResult:
        """The test that the figures are of: the one at the bound, else the last."""
        if self.found is None or self.found.best is None:
            return self.results[-1]
        return next(r for r in self.results if r.test.expected_per_s == self.found.best.rate_per_s and r.valid)

    @property
    def problem(self) -> str:
        """Why this repeat is not valid; "" if it is."""
        if self.found is not None:
            return self.found.reason if self.found.best is None else ""
        return self.deciding.reason


@dataclass(frozen=True, kw_only=True)
class CellUnderLoad(CellResult):
    """What was measured on one cell under load."""

    variant: Variant
    load: CellLoad
    served: Served
    repeats: tuple[Repeat, ...]
    saturated_per_s: Mapping[str, float] = field(default_factory=dict)  # of a router, by who leaves: one of ROUTINGS
    host_share: float | None = None  # 1 - device / wall of a batch, the most of all restarts; None: not on a GPU


@dataclass(frozen=True)
class LoadMeasurement:
    """A quartet under load."""

    cells: Mapping[str, CellUnderLoad]
    predicted_per_s: Mapping[str, Mapping[int, float]]  # of the static sizes that were tried, by role
    seconds: float
    telemetry: Telemetry | None = None
    restarts: int = 1  # restarts that were measured
    note: str = ""

    @property
    def host_shares(self) -> list[float]:
        """Of the cells that have one."""
        return [cell.host_share for cell in self.cells.values() if cell.host_share is not None]

    @property
    def host_bound(self) -> bool:
        """Whether some cell waits for the host for more than a fifth of a batch."""
        waits = any(cell.loaded.no_device for cell in self.cells.values())
        return waits or any(share > HOST_BOUND for share in self.host_shares)


def measure_under_load(
    variants: Mapping[str, Sequence[Variant]],
    config: HarnessConfig,
    device: str,
    progress: Progress,
    scenario: LoadScenario,
) -> LoadMeasurement:
    """Measure all cells (1, 2 or 4); raise CellError where one can't be trusted or fails while it serves."""
    if admits_one_process(device):
        return _measure(variants, config, device, progress, scenario, fresh=True)
    try:
        return _measure(variants, config, device, progress, scenario, fresh=False)
    except CellError as error:
        if BUSY not in str(error):
            raise
        return _measure(variants, config, device, progress, scenario, fresh=True)


def _measure(
    variants: Mapping[str, Sequence[Variant]],
    config: HarnessConfig,
    device: str,
    progress: Progress,
    scenario: LoadScenario,
    fresh: bool,
) -> LoadMeasurement:
    """Measure with a process a cell, or with one for each command where the GPU admits no second one (`fresh`)."""
    run = _LoadRun(config, resolve_protocol(config.protocol, device), device, progress, scenario, fresh)
    run.chosen, run.predicted_per_s = choose(variants, config, run.settings, run.processes, progress, scenario)
    with Telemetry(device) as run.telemetry:
        for restart in restarts_within(config.scenario.budget_s, run.settings.restarts):
            run.restart(restart)
    return run.measurement()


@dataclass
class _LoadRun:
    """One measurement under load: what its restarts share, and what they have found so far, by role."""

    config: HarnessConfig
    settings: ProtocolConfig
    device: str
    progress: Progress
    scenario: LoadScenario
    fresh: bool  # a process for each command
    started: float = field(default_factory=time.monotonic)
    chosen: Mapping[str, Variant] = field(init=False)
    predicted_per_s: Mapping[str, Mapping[int, float]] = field(init=False)
    telemetry: Telemetry = field(init=False)
    order: np.random.Generator = field(init=False)
    loaded: dict[str, Loaded] = field(default_factory=dict)  # in the last restart, as the next two
    fidelity: dict[str, Fidelity] = field(default_factory=dict)
    served: dict[str, Served] = field(default_factory=dict)
    loads: dict[str, CellLoad] = field(default_factory=dict)
    repeats: dict[str, list[Repeat]] = field(default_factory=dict)
    host_shares: dict[str, float] = field(default_factory=dict)
    saturated_per_s: dict[str, dict[str, float]] = field(default_factory=dict)
    restarts: int = 0
    slowed: int = 0  # visits in which the chip was slowing down

    def __post_init__(self) -> None:
        self.order = np.random.default_rng(self.settings.seed)

    def processes(self, chosen: Sequence[Variant]) -> AbstractContextManager[Mapping[str, Handle]]:
        """Return the processes of these cells, still to be entered."""
        cells = [variant.cell for variant in chosen]
        return turns(cells, ServingCell) if self.fresh else workers(cells, ServingCell)

    def restart(self, number: int) -> None:
        """Bring up fresh processes and measure this restart's repeats in them, the cells in a random order in each."""
        options = self.config.scenario
        with self.processes(list(self.chosen.values())) as handles:
            cells = [variant.cell for variant in self.chosen.values()]
            self.loaded, self.fidelity = bring_up(cells, handles, self.settings, self.progress)
            warm_up(handles, self.settings, self.device, self.progress)
            for role, variant in self.chosen.items():
                self.make_ready(variant, handles[role])
            first, last = (round(options.repeats * r / self.settings.restarts) for r in (number, number + 1))
            for repeat in range(first, last):
                for role in (list(self.chosen)[index] for index in self.order.permutation(len(self.chosen))):
                    self.progress.stage(f"{options.name} {repeat + 1} of {options.repeats}", role)
                    self.visit(role, handles[role], number, repeat)
            for role, variant in self.chosen.items():
                if len(variant.plan.policies) > 1 and role not in self.saturated_per_s:
                    self.progress.stage("bounds of the router", role)
                    self.saturated_per_s[role] = _saturated(handles[role], variant, self.loads[role], self.config)
        self.restarts = number + 1

    def make_ready(self, variant: Variant, handle: Handle) -> None:
        """Have a cell ready to serve, and time its batches: they differ from process to process."""
        role, timeout_s = variant.cell.role, self.settings.worker_timeout_s
        self.progress.stage("ready to serve", role)
        self.served[role] = served = handle.ask("ready", variant.plan, timeout_s)
        if served.degraded:
            reasons = (*self.loaded[role].degraded, *served.degraded)
            self.loaded[role] = replace(self.loaded[role], degraded=reasons)
        timed = CellLoad.timed(variant, handle, self.config, timeout_s)
        self.loads[role] = self.loads[role].with_restart(timed) if role in self.loads else timed
        waits = _host_share(handle, self.loaded[role], timeout_s)
        if waits is not None:
            self.host_shares[role] = max(waits, self.host_shares.get(role, waits))

    def visit(self, role: str, handle: Handle, restart: int, repeat: int) -> None:
        """Measure one repeat of one cell: a test, or a search."""
        began = time.monotonic()
        command, argument = self.scenario.request(self.chosen[role], self.loads[role], self.config, repeat)
        timeout_s = command_timeout_s(self.config, command)
        answer: Any = handle.ask(command, argument, timeout_s)
        if isinstance(answer, SearchResult):
            best = answer.found.best
            measured = Repeat(restart, answer.results, best.arrived_per_s if best else None, answer.found)
        else:
            answers = (answer,) if self.scenario.has_rate else sized_again(handle, argument, answer, timeout_s)
            measured = Repeat(restart, answers, self.scenario.throughput_per_s(answers[-1]))
        self.repeats.setdefault(role, []).append(measured)
        self.slowed += self.telemetry.read(role, restart, repeat, time.monotonic() - began)
        self.loads[role] = self.loads[role].after_search(measured.found)

    def measurement(self) -> LoadMeasurement:
        """Return all that was found."""
        notes = (
            ONE_AT_A_TIME if self.fresh else "",
            self.telemetry.blind,
            f"{self.slowed} visits measured on a chip that was slowing down" if self.slowed else "",
            shortened(self.restarts, self.settings.restarts, self.config.scenario.budget_s),
        )
        return LoadMeasurement(
            cells={
                role: CellUnderLoad(
                    loaded=self.loaded[role],
                    fidelity=self.fidelity[role],
                    variant=variant,
                    load=self.loads[role],
                    served=self.served[role],
                    repeats=tuple(self.repeats.get(role, ())),
                    saturated_per_s=self.saturated_per_s.get(role, {}),
                    host_share=self.host_shares.get(role),
                )
                for role, variant in self.chosen.items()
            },
            predicted_per_s=self.predicted_per_s,
            seconds=time.monotonic() - self.started,
            telemetry=self.telemetry,
            restarts=self.restarts,
            note="; ".join(note for note in notes if note),
        )


def sized_again(handle: Handle, argument: Any, first: LoadResult, timeout_s: float) -> tuple[LoadResult, ...]:
    """Return the tests of a scenario without a rate, `first` and as many more as it takes to last `min_duration_s`."""
    plan, test = argument
    results = [first]
    while results[-1].too_short and len(results) < SIZES_TRIED:
        test = resized(test, results[-1])
        results.append(handle.ask("load_test", (plan, test), timeout_s))
    return tuple(results)


def _saturated(handle: Handle, variant: Variant, load: CellLoad, config: HarnessConfig) -> dict[str, float]:
    """Return samples/s of a saturated cell by who leaves after the first stage: as measured, none, all."""
    out = {}
    for routing, argument in bound_tests(variant, load, config).items():
        result: LoadResult = handle.ask("load_test", argument, command_timeout_s(config, "load_test"))
        out[routing] = point(result).completed_per_s
    return out


def _host_share(handle: Handle, loaded: Loaded, timeout_s: float) -> float | None:
    if not {"device", "wall"} <= set(loaded.boundaries):
        return None
    turn = handle.ask("slice", Turn(("device", "wall"), 1, 0.25), timeout_s).milliseconds
    return 1 - float(np.median(turn["device"]) / np.median(turn["wall"]))


def choose(
    variants: Mapping[str, Sequence[Variant]],
    config: HarnessConfig,
    settings: ProtocolConfig,
    processes: Processes,
    progress: Progress,
    scenario: LoadScenario,
) -> tuple[dict[str, Variant], dict[str, dict[int, float]]]:
    """Return one variant a role, and what each static size promised, requests/s, where there was a choice.

    A promise is a queue simulated with measured batch times; it only chooses what is then measured.
    """
    chosen, predicted = {}, {}
    for role, several in variants.items():
        if len(several) > 1:
            predicted[role] = {
                variant.plan.policy.max_batch_size: scenario.promised_per_s(
                    _timed(variant, config, settings, processes, progress)
                )
                for variant in several
            }
            best = max(predicted[role], key=lambda size: predicted[role][size])
            chosen[role] = next(variant for variant in several if variant.plan.policy.max_batch_size == best)
        else:
            chosen[role] = several[0]
    return chosen, predicted


def _timed(
    variant: Variant, config: HarnessConfig, settings: ProtocolConfig, processes: Processes, progress: Progress
) -> CellLoad:
    """Return what a cell's batches take, in processes of their own."""
    with processes([variant]) as handles:
        bring_up([variant.cell], handles, settings, progress)
        progress.stage(f"static batch {variant.plan.policy.max_batch_size}", variant.cell.role)
        handle = handles[variant.cell.name]
        handle.ask("ready", variant.plan, settings.worker_timeout_s)
        return CellLoad.timed(variant, handle, config, settings.worker_timeout_s)


def restarts_within(budget_s: float | None, restarts: int, now: Callable[[], float] = time.monotonic) -> Iterator[int]:
    """Yield 0, 1, ... below `restarts`, the first in any case; `budget_s` counts from here on, None: all of them."""
    began = last = now()
    longest_s = 0.0
    for restart in range(restarts):
        if restart:
            longest_s, last = max(longest_s, now() - last), now()
            if budget_s is not None and last - began + longest_s > budget_s:
                return
        yield restart


def shortened(done: int, restarts: int, budget_s: float | None) -> str:
    """Return what a reader must know of sets that were left out; "" if there are none."""
    return f"{done} of {counted(restarts, 'restart')}: scenario.budget_s={budget_s:g}" if done < restarts else ""

"""`scenario=single_stream`, `offline`, `server`: requests that MLPerf LoadGen sends, and what serves them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any, ClassVar

from harness.config import SCENARIO_RANGES, HarnessConfig, check_ranges
from harness.measure.cell import Cell, QuartetPlan
from harness.measure.progress import Progress
from harness.results.analyse import Analysis
from harness.results.load_analysis import analyse_load
from harness.results.load_record import add_latency_rate, add_served
from harness.results.row import RowDraft
from harness.serving.loadgen import LoadResult, require_loadgen
from harness.serving.measure import LoadMeasurement, measure_under_load
from harness.serving.requests import CellLoad, Variant, load_test, saturated_per_s, search_of, variant_plans, variants
from harness.sweep.scenarios.scenario import Scenario, TimingEstimate
from harness.system.errors import UserError

GIVE_UP_BOUNDS, GIVE_UP_MIN_S = 10, 2.0  # a queue as old as ten bounds is no hiccup


class UnderLoad(Scenario):
    """What the scenarios with requests have in common."""

    rooms: ClassVar = ("harness.serving", "harness.results.load_analysis", "harness.results.load_record")
    name: ClassVar[str]  # LoadGen's, in lower case
    has_rate: ClassVar[bool] = False  # of arrivals, which an option may give

    @abstractmethod
    def request(self, variant: Variant, load: CellLoad, config: HarnessConfig, repeat: int) -> tuple[str, Any]:
        """Return the command of one repeat and its argument: `load_test` or `search`."""

    def promised_per_s(self, load: CellLoad) -> float:
        """Return what is to be expected of a cell, to choose between its static sizes."""
        return load.capacity_per_s

    def throughput_per_s(self, result: LoadResult) -> float:
        """Return what one test measured."""
        return result.completed_per_s

    def static_sizes(self, config: HarnessConfig) -> tuple[int, ...]:
        """Return the static batch sizes to try where the options name none, ascending."""
        return (config.batch_size,)

    def boundary(self, config: HarnessConfig) -> str:
        """Return what throughput is of: the metric is `throughput/<this>`."""
        return self.name

    def check(self, config: HarnessConfig) -> None:
        """Refuse options that contradict each other; LoadGen must be there."""
        if config.scenario.rate_per_s is not None and not self.has_rate:
            raise UserError(
                f"scenario.rate_per_s={config.scenario.rate_per_s}: only scenario=server has a rate of arrivals."
            )
        _check_numbers(config)
        _check_sizes(config)
        if config.engine.build_only:
            raise UserError(f"scenario={self.name}: engine.build_only=true runs nothing; leave one out.")
        if (config.protocol.builds or 1) > 1:
            raise UserError(
                f"protocol.builds={config.protocol.builds}: load scenarios measure one build; use scenario=fixed."
            )
        if config.protocol.coursework:
            raise UserError("protocol.coursework=true: the usual recipe has no requests; use scenario=fixed.")
        require_loadgen()

    def params(self, config: HarnessConfig) -> dict[str, Any]:
        """Return the scenario's options."""
        return {f"scenario.{name}": value for name, value in asdict(config.scenario).items() if name != "name"}

    def builds(self, plan: QuartetPlan) -> list[tuple[QuartetPlan, int]]:
        """Return the cells that batch, and the others at each static size to be tried."""
        sizes = sorted(set(plan.config.scenario.static_batch_sizes or self.static_sizes(plan.config)))
        return [(variant, 0) for variant in variant_plans(plan, sizes)]

    def estimated(self, plans: Sequence[QuartetPlan]) -> TimingEstimate:
        """Return one LoadGen test for each cell and repeat; a search takes several."""
        options = plans[0].config.scenario
        tests = options.repeats * sum(len(plan.cells) for plan in plans)
        most_s = None if self.has_rate and options.rate_per_s is None else tests * options.max_duration_s
        return TimingEstimate(
            tests * options.min_duration_s,
            most_s,
            f"{options.repeats} LoadGen tests a cell of scenario.min_duration_s={options.min_duration_s:g} "
            f"to scenario.max_duration_s={options.max_duration_s:g}" + ("; a search takes several" * (most_s is None)),
        )

    def measure(self, plan: QuartetPlan, built: Sequence[Mapping[str, Cell]], progress: Progress) -> LoadMeasurement:
        """Have each cell serve, at the static size that promises most where there is a choice."""
        return measure_under_load(variants(plan, built), plan.config, plan.device, progress, self)

    def measured_cells(self, built: Sequence[Mapping[str, Cell]], measurement: LoadMeasurement) -> dict[str, Cell]:
        """Return the cells at the sizes that were chosen."""
        return {role: cell.variant.cell for role, cell in measurement.cells.items()}

    def analyse(self, plan: QuartetPlan, measurement: LoadMeasurement) -> Analysis:
        """Return throughputs, latencies and load figures of each cell, gains and the factor."""
        return analyse_load(measurement, plan.config.protocol, self.boundary(plan.config))

    def metrics(
        self,
        row: RowDraft,
        plan: QuartetPlan,
        cells: Mapping[str, Cell],
        measurement: LoadMeasurement,
        analysis: Analysis,
    ) -> None:
        """Add every request and batch, LoadGen's summaries, and what a capacity plan needs."""
        add_served(row, plan, measurement)


class SingleStream(UnderLoad):
    """One request after the other: the next one comes when the last one is answered."""

    name = "single_stream"

    def request(self, variant: Variant, load: CellLoad, config: HarnessConfig, repeat: int) -> tuple[str, Any]:
        """Return a test that is sized by the time of the smallest batch."""
        expected_per_s = 1e3 / median(load.service_ms[min(load.service_ms)])
        return "load_test", (variant.plan, load_test(self.name, config, repeat, expected_per_s))

    def throughput_per_s(self, result: LoadResult) -> float:
        """Return one over the mean latency."""
        return 1e3 / result.mean_latency_ms

    def static_sizes(self, config: HarnessConfig) -> tuple[int, ...]:
        """Return 1: one request at a time is best served one at a time."""
        return (1,)


class Offline(UnderLoad):
    """All requests are there at once."""

    name = "offline"

    def request(self, variant: Variant, load: CellLoad, config: HarnessConfig, repeat: int) -> tuple[str, Any]:
        """Return a test at full load."""
        return "load_test", (variant.plan, load_test(self.name, config, repeat, saturated_per_s(load)))


class Server(UnderLoad):
    """Poisson arrivals: the highest rate whose latency is within the bound, or the latency at a given rate."""

    name = "server"
    has_rate = True

    def request(self, variant: Variant, load: CellLoad, config: HarnessConfig, repeat: int) -> tuple[str, Any]:
        """Return a search, or a test at the given rate."""
        options = config.scenario
        give_up_s = max(GIVE_UP_BOUNDS * options.slo_ms / 1e3, GIVE_UP_MIN_S)
        test = load_test(self.name, config, repeat, options.rate_per_s or load.guess_per_s, give_up_s)
        if options.rate_per_s is not None:
            return "load_test", (variant.plan, test)
        return "search", search_of(variant, load, config, repeat, test)

    def promised_per_s(self, load: CellLoad) -> float:
        """Return the rate that a simulated queue sustains."""
        return load.guess_per_s

    def static_sizes(self, config: HarnessConfig) -> tuple[int, ...]:
        """Return three sizes to search with; a given rate is measured at the given batch size."""
        size = config.batch_size
        return (size,) if config.scenario.rate_per_s is not None else (1, max(1, size // 4), size)

    def boundary(self, config: HarnessConfig) -> str:
        """Return whether throughput is the rate at the bound, or what was completed of a given rate."""
        return "at_slo" if config.scenario.rate_per_s is None else "completed"

    def analyse(self, plan: QuartetPlan, measurement: LoadMeasurement) -> Analysis:
        """Return no gains at a given rate: all cells complete what arrives."""
        config = plan.config
        return analyse_load(
            measurement, config.protocol, self.boundary(config), compared=config.scenario.rate_per_s is None
        )

    def metrics(
        self,
        row: RowDraft,
        plan: QuartetPlan,
        cells: Mapping[str, Cell],
        measurement: LoadMeasurement,
        analysis: Analysis,
    ) -> None:
        """Add the latency-rate curves too."""
        super().metrics(row, plan, cells, measurement, analysis)
        add_latency_rate(row, plan)


def _check_numbers(config: HarnessConfig) -> None:
    options = config.scenario
    check_ranges("scenario", options, SCENARIO_RANGES)
    if options.min_duration_s > options.max_duration_s:
        raise UserError(
            f"scenario.min_duration_s={options.min_duration_s}: is longer than max_duration_s={options.max_duration_s}."
        )
    if config.protocol.restarts > options.repeats:
        raise UserError(
            f"protocol.restarts={config.protocol.restarts}: is more than scenario.repeats={options.repeats}; "
            "raise those."
        )


def _check_sizes(config: HarnessConfig) -> None:
    for size in config.scenario.static_batch_sizes or ():
        if size < 1:
            raise UserError(f"scenario.static_batch_sizes={config.scenario.static_batch_sizes}: sizes are at least 1.")
    options = config.hw.dynamic_batching
    if not options.enabled:
        return
    from harness.techniques.hw.dynamic_batching import profile

    limits = profile(options, config)
    for size in options.preferred_batch_sizes or ():
        if not limits.min_size <= size <= limits.max_size:
            raise UserError(
                f"hw.dynamic_batching.preferred_batch_sizes={options.preferred_batch_sizes}: {size} is outside "
                f"the dynamic profile {limits.min_size}..{limits.max_size}."
            )

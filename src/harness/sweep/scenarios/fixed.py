"""`scenario=fixed`: batches of one size, one after the other, timed in interleaved blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from harness.config import HarnessConfig
from harness.engines import get
from harness.measure.cell import Cell, QuartetPlan
from harness.measure.design import Design
from harness.measure.progress import Progress
from harness.measure.protocol import Measurement, measure, measure_design
from harness.results.analyse import Analysis, analyse
from harness.results.record import add_blocks
from harness.results.row import RowDraft
from harness.stats.prior import of_a_contrast
from harness.sweep.scenarios.scenario import Scenario, TimingEstimate
from harness.system.errors import UserError


class Fixed(Scenario):
    """No requests: the next batch is ready as soon as the previous one is done."""

    has_requests = False
    replicates_builds = True
    side_by_side = True

    def check(self, config: HarnessConfig) -> None:
        """Refuse the options of a batcher."""
        options, usual = config.hw.dynamic_batching, HarnessConfig().hw.dynamic_batching
        for name in ("max_queue_delay_us", "preferred_batch_sizes"):
            if getattr(options, name) != getattr(usual, name):
                raise UserError(
                    f"hw.dynamic_batching.{name}={getattr(options, name)}: a batcher needs requests; "
                    "add scenario=server (or single_stream, offline), or leave it out."
                )

    def builds(self, plan: QuartetPlan) -> list[tuple[QuartetPlan, int]]:
        """Return the quartet once for each replicated build."""
        return [(plan, number) for number in range(plan.config.protocol.builds or 1)]

    def estimated(self, plans: Sequence[QuartetPlan]) -> TimingEstimate:
        """Return the fewest blocks that decide, and the budget of all quartets."""
        protocol = plans[0].config.protocol
        blocks = max(min(protocol.min_blocks, protocol.max_blocks), 2 * max(protocol.restarts, protocol.builds or 1))
        # on the device a block visits each distinct cell once, elsewhere the cells of each quartet
        cells = [repr(cell) for plan in plans for cell in plan.cells]
        visits = len(set(cells)) if plans[0].primary == "device" else len(cells)
        least_s = blocks * visits * protocol.slice_s
        return TimingEstimate(
            least_s,
            max(least_s, len(plans) * protocol.budget_s),
            f"at least {blocks} blocks of visits of {protocol.slice_s:g} s, "
            f"at most protocol.budget_s={protocol.budget_s:g} a quartet",
        )

    def measure(self, plan: QuartetPlan, built: Sequence[Mapping[str, Cell]], progress: Progress) -> Measurement:
        """Measure the cells side by side, in blocks."""
        first, *rebuilt = (list(cells.values()) for cells in built)
        return measure(first, plan.config.protocol, plan.primary, progress, rebuilt)

    def measure_all(
        self,
        plans: Sequence[QuartetPlan],
        built: Sequence[Sequence[Mapping[str, Cell]]],
        progress: Progress,
        ended: Callable[[int, Any], None],
        family: int,
    ) -> None:
        """Measure the distinct cells of all quartets side by side, in blocks."""
        builds = [
            {cell.name: cell for quartets in built for cell in quartets[build].values()}
            for build in range(len(built[0]))
        ]
        names = [{role: cell.name for role, cell in first.items()} for first, *_ in built]
        design = Design(tuple(builds), tuple(names))
        protocol = plans[0].config.protocol
        together = family if protocol.family == "holm" else 1  # a screen's discoveries are corrected by their rank
        measure_design(design, protocol, plans[0].primary, progress, ended, together)

    def analyse(self, plan: QuartetPlan, measurement: Measurement) -> Analysis:
        """Return throughputs, percentiles, gains and factors on every boundary."""
        return analyse(measurement, plan.config.protocol)

    def metrics(
        self,
        row: RowDraft,
        plan: QuartetPlan,
        cells: Mapping[str, Cell],
        measurement: Measurement,
        analysis: Analysis,
    ) -> None:
        """Add the samples, energy and memory, answers on labelled images, roofline, and where the factor comes from."""
        add_blocks(row, plan, cells, measurement, analysis)
        row.notes += notes_of_builds(build_sd_of(plan), len(set(measurement.samples.builds)))
        spread, tuned = measurement.samples.restart_spread, measurement.samples.build_spreads
        row.details["known_spreads"] = {  # with samples.parquet all that the intervals are made of
            "restart": spread and asdict(spread), "builds": {role: asdict(known) for role, known in tuned.items()}
        }  # fmt: skip
        if spread is not None and len(set(measurement.samples.groups)) == 1:
            row.notes.append(
                f"of one restart: on a CPU other processes move the factor by {spread.sd:.1%} (sd, seen elsewhere), "
                "which the intervals hold (protocol.restarts=8 measures it here)"
            )


def build_sd_of(plan: QuartetPlan) -> float | None:
    """Return the sd of ln(factor) between builds of its engines, 0 where it is not known; None where none is tuned."""
    engines = [get(cell.engine) for cell in plan.cells]
    if not any(engine.builds_differ(plan.config, plan.device) for engine in engines):
        return None
    known = of_a_contrast(filter(None, (engine.build_spread(plan.config, plan.device) for engine in engines)))
    return known.sd if known else 0.0


def notes_of_builds(build_sd: float | None, builds: int) -> list[str]:
    """Return what the intervals of a row hold of its builds, by what `build_sd_of` says."""
    if build_sd is None or (builds > 1 and not build_sd):
        return []
    if builds > 1:
        return [
            f"of {builds} builds: how far builds move the factor is pooled with what was seen elsewhere "
            f"({build_sd:.1%}, sd)"
        ]
    if not build_sd:
        return [
            "of one build: another may choose other kernels, how far that moves the factor is not known "
            "(protocol.builds=3 measures three)"
        ]
    return [
        f"of one build: others move the factor by {build_sd:.1%} (sd, seen elsewhere), which the intervals hold "
        "(protocol.builds=3 measures three)"
    ]

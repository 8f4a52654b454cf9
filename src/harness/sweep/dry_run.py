"""`dry_run=true`: what a sweep would measure, what of it is in the cache, and about how long it takes; nothing is done.

Networks are assembled, for only they tell which engines they need. Nothing is exported, built, timed or written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from rich.console import Console

from harness.measure.cell import QuartetPlan
from harness.sweep.build import EngineFound, cell_names, look_up
from harness.sweep.job import PlannedDesign, designs_of
from harness.sweep.refusals import PlannedSweep
from harness.sweep.scenarios import scenario_of
from harness.sweep.terminal import VERBATIM, announce_plan
from harness.system.cache import Cache
from harness.system.counts import counted
from harness.system.errors import CellError, UserError


@dataclass
class _Engines:
    """The distinct engines that a sweep needs."""

    found: dict[str, EngineFound] = field(default_factory=dict)  # by key
    failed: list[str] = field(default_factory=list)  # cells that can't be assembled, and why

    def to_build(self) -> list[str]:
        """Return the engine's name of each that is not in the cache."""
        return [found.engine for found in self.found.values() if found.seconds is None]


def dry_run(console: Console, planned: PlannedSweep, devices: int = 1) -> int:
    """Print what a planned sweep would do; return the exit status: 1 where a cell can't even be assembled."""
    designs = designs_of(planned.jobs, len(planned.jobs), devices)
    announce_plan(console, planned)
    for line in ["Dry run: nothing is built, measured or written.", *_described(designs)]:
        console.print(line, **VERBATIM)
    engines = _engines(designs)
    failed = [f"can't be assembled, and would fail: {reason}" for reason in engines.failed]
    for line in [*failed, _cached(engines), *_estimated(designs, engines)]:
        console.print(line, **VERBATIM)
    return 1 if engines.failed else 0


def _described(designs: Sequence[PlannedDesign]) -> list[str]:
    """Return the quartets and distinct cells of each design, one line each."""
    quartets = sum(len(design.jobs) for design in designs)
    cells = sum(len(_cells(design)) for design in designs)
    lines = [f"{counted(quartets, 'quartet')}, {counted(cells, 'distinct cell')} to bring up:"]
    for design in designs:
        for job in design.jobs:
            plan = job.plan
            config = plan.config
            roles = ", ".join(cell.role for cell in plan.cells)
            lines.append(
                f"  {plan.label}, {config.model.name} b{config.batch_size} on {plan.engine} ({plan.device}): {roles}"
            )
        arrangement = "side by side" if len(design.jobs) > 1 else "alone"
        lines.append(f"    {arrangement}: {'; '.join(_cells(design))}")
    return lines


def _cells(design: PlannedDesign) -> list[str]:
    """Return the names of a design's distinct cells."""
    return list(cell_names([job.plan for job in design.jobs]).values())


def _engines(designs: Sequence[PlannedDesign]) -> _Engines:
    """Return the engines of all cells, each looked up once."""
    engines = _Engines()
    seen: set[str] = set()
    for design in designs:
        for job in design.jobs:
            for requested, build in scenario_of(job.plan.config).builds(job.plan):
                _look_up(requested, build, seen, engines)
    return engines


def _look_up(plan: QuartetPlan, build: int, seen: set[str], engines: _Engines) -> None:
    config = plan.config
    for cell in plan.cells:
        identity = repr((config.model, config.data, config.checkpoints, config.batch_size, plan.device, cell, build))
        if identity in seen:
            continue
        seen.add(identity)
        try:
            found = look_up(plan, cell, Cache(Path(config.cache.dir), read_only=True), build)
        except (CellError, UserError) as error:
            engines.failed.append(f"{plan.label}, {cell.role}: {error}")
        else:
            engines.found.update({engine.key: engine for engine in found})


def _cached(engines: _Engines) -> str:
    to_build = engines.to_build()
    return (
        f"{counted(len(engines.found), 'engine')}: {len(engines.found) - len(to_build)} in the cache, "
        f"{len(to_build)} to build{_by_name(to_build)}"
    )


def _by_name(names: Sequence[str]) -> str:
    counts = {name: names.count(name) for name in dict.fromkeys(names)}
    return f" ({', '.join(f'{count} {name}' for name, count in counts.items())})" if counts else ""


def _estimated(designs: Sequence[PlannedDesign], engines: _Engines) -> list[str]:
    """Return an estimate of the minutes, and what it is of."""
    config = designs[0].jobs[0].plan.config
    known: dict[str, list[float]] = {}
    for found in engines.found.values():
        if found.seconds is not None:
            known.setdefault(found.engine, []).append(found.seconds)
    lines = [] if config.engine.build_only else [_timing(designs)]
    if to_build := engines.to_build():
        lines.append(_building(to_build, {name: median(seconds) for name, seconds in known.items()}))
    if config.cache.shared:
        lines.append("cache.shared was not checked: what it holds need not be built.")
    lines.append("Not in it: loading, verifying and warming up the cells, profiles, and quartets that are resumed.")
    return lines


def _timing(designs: Sequence[PlannedDesign]) -> str:
    least, most, open_ended = 0.0, 0.0, False
    whys = []
    for design in designs:
        plans = [job.plan for job in design.jobs]
        found = scenario_of(plans[0].config).estimated(plans)
        if found is None:
            return "No estimate of the time: this scenario gives none."
        least, most = least + found.least_s, most + (found.most_s or 0.0)
        open_ended = open_ended or found.most_s is None
        whys.append(found.why)
    span = f"{_minutes(least)} or more" if open_ended else f"{_minutes(least)} to {_minutes(most)}"
    return f"Estimate, of timing alone: {span} ({'; '.join(dict.fromkeys(whys))})."


def _building(to_build: Sequence[str], usual_s: Mapping[str, float]) -> str:
    known = [name for name in to_build if name in usual_s]
    unknown = [name for name in dict.fromkeys(to_build) if name not in usual_s]
    parts = []
    if known:
        seconds = sum(usual_s[name] for name in known)
        parts.append(f"{_minutes(seconds)} (one by one, each as long as the median of its engine's cached builds here)")
    if unknown:
        parts.append(f"not known for {', '.join(unknown)}, of which the cache has no build to go by")
    return f"Estimate, of building: {'; '.join(parts)}."


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 600 else f"{seconds / 60:.1f} min"

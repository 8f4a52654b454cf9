"""A cell of a plan -> what its engine is asked to build."""

from __future__ import annotations

from pathlib import Path

import psutil

from harness.config import HarnessConfig
from harness.engines import get
from harness.engines.base import BuildPlan, Graph, Option
from harness.measure.design import CellPlan, QuartetPlan
from harness.system.errors import UserError
from harness.system.machine import usable_cores
from harness.techniques.levels import BatchProfile, Levels


def build_plan(plan: QuartetPlan, cell: CellPlan, graph: Graph, recipe: str = "", stage: str = "") -> BuildPlan:
    """Return what an engine is asked to build of one stage of a cell."""
    config, levels, engine = plan.config, cell.levels, get(cell.engine)
    options = _engine_options(plan, cell)
    has_ranges = "profiles" in engine.own_options and not levels.batch.is_static
    return BuildPlan(
        engine=cell.engine,
        graph=graph,
        batch=levels.batch,
        precision=levels.precision,
        fusion=levels.fusion,
        cuda_graph=levels.cuda_graph and plan.device == "cuda",
        tf32=config.precision.tf32,
        device=plan.device,
        # the reference is not built for any chip; it is there to be compared with
        compute_capability=None if cell.engine == "eager" else capability(config),
        instance=levels.instance,
        recipe=recipe if engine.runs_module else "",
        stage=stage if engine.runs_module else "",
        options=tuple(sorted(options.items())),
        profiles=_profiles(config) if has_ranges else (),
        timing_dir=_timing_dir(config, levels) if "timing_cache" in options else "",
    )


def capability(config: HarnessConfig) -> tuple[int, int] | None:
    """Return the chip to build for as (major, minor); raise UserError for a text that isn't one."""
    text = config.engine.compute_capability
    if text is None:
        return None
    major, dot, minor = str(text).partition(".")
    if not (dot and major.isdigit() and minor.isdigit()):
        raise UserError(f"engine.compute_capability={text}: write it as major.minor, for example 8.9.")
    return int(major), int(minor)


def cpu_threads() -> int:
    """Return the physical cores this process may use."""
    allowed = usable_cores()
    return max(1, min(allowed, psutil.cpu_count(logical=False) or allowed))


def _engine_options(plan: QuartetPlan, cell: CellPlan) -> dict[str, Option]:
    """Return what every engine is told, and what this one takes of the config."""
    asked, levels = plan.config.engine, cell.levels
    options: dict[str, Option] = {}
    if plan.device == "cpu":
        options["threads"] = asked.threads or cpu_threads()
    if levels.fusion_step:
        options["fusion_step"] = levels.fusion_step
    return options | get(cell.engine).options(asked, levels, plan.device)


def _profiles(config: HarnessConfig) -> tuple[BatchProfile, ...]:
    return tuple(BatchProfile(*sizes) for sizes in config.engine.profiles or ())


def _timing_dir(config: HarnessConfig, levels: Levels) -> str:
    """Return where timings are kept: a replicated build with those of the first would be the first once more."""
    folder = Path(config.cache.dir).absolute() / "timing"
    return str(folder / f"build{levels.replica}" if levels.replica else folder)

"""A cell of a plan -> what its engine is asked to build."""

from __future__ import annotations

import psutil

from harness.config import HarnessConfig
from harness.engines import get
from harness.engines.base import BuildPlan, Graph, Option
from harness.measure.cell import CellPlan, QuartetPlan
from harness.system.errors import UserError
from harness.system.machine import usable_cores


def build_plan(plan: QuartetPlan, cell: CellPlan, graph: Graph, recipe: str = "", stage: str = "") -> BuildPlan:
    """Return what an engine is asked to build of one stage of a cell."""
    config, levels, engine = plan.config, cell.levels, get(cell.engine)
    requested = BuildPlan(
        engine=cell.engine,
        graph=graph,
        batch=levels.batch,
        precision=levels.precision,
        fusion=levels.fusion,
        cuda_graph=levels.cuda_graph and plan.device == "cuda",
        tf32=config.precision.tf32,
        device=plan.device,
        # what is not compiled is not built for any chip; it is there to be compared with
        compute_capability=capability(config) if engine.capabilities.compiles else None,
        instance=levels.instance,
        recipe=recipe if engine.runs_module else "",
        stage=stage if engine.runs_module else "",
        options=tuple(sorted(_engine_options(plan, cell).items())),
    )
    return engine.complete(requested, config, levels)


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
    config, engine, levels = plan.config.engine, get(cell.engine), cell.levels
    options: dict[str, Option] = {}
    if plan.device == "cpu":
        options["threads"] = config.threads or cpu_threads()
    if levels.fusion_step:
        options["fusion_step"] = levels.fusion_step
    asked = {option.name: config.option(option.name) for option in engine.options}
    return options | engine.settings(asked, levels, plan.device)

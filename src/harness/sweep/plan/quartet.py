"""Which cells a quartet has, and what is on in each of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from harness.config import ArchConfig, HarnessConfig
from harness.engines import get
from harness.engines.base import Graph
from harness.measure.design import CellPlan, QuartetPlan
from harness.measure.settings import settled
from harness.sweep.plan.config_limits import check_config
from harness.sweep.plan.request import build_plan
from harness.system.errors import UserError
from harness.techniques import arch, hw
from harness.techniques.levels import off

_NO_GRAPH = Graph(Path(), "", (), (), 0)  # stands in where only the options of a plan are looked at


def plan_quartet(config: HarnessConfig, engine: str, device: str) -> QuartetPlan:
    """Return the plan of a validated config on a resolved engine; raise UserError for what can't be combined."""
    check_config(config)
    config = replace(config, protocol=settled(config.protocol, device))
    arch_stack = arch.enabled(config.arch)
    hw_stack = hw.enabled(config.hw)
    plain = ArchConfig()
    reference = engine if config.reference == "engine" else "eager"
    # the identity control is the reference once more, so it stays on what the reference runs on
    hw_engine = reference if hw_stack == ("identity",) else engine
    if hw_stack:
        hw.check_stack(config, hw_engine)
        _check_builder(config, hw_stack, hw_engine)
    levels_off = off(config.batch_size)
    levels_on = hw.apply_stack(levels_off, config)

    cells = []
    for role, with_arch, with_hw in (
        ("baseline", False, False),
        ("arch", True, False),
        ("hw", False, True),
        ("combined", True, True),
    ):
        if (with_arch and not arch_stack) or (with_hw and not hw_stack):
            continue
        levels = levels_on if with_hw else levels_off
        if with_arch and "identity" in arch_stack:
            levels = replace(levels, instance="arch-identity " + levels.instance)
        cells.append(
            CellPlan(
                role=role,
                arch=config.arch if with_arch else plain,
                engine=hw_engine if with_hw else reference,
                levels=levels,
            )
        )
    plan = QuartetPlan(config, device, cells[-1].engine, arch_stack, hw_stack, tuple(cells))
    for cell in plan.cells:
        get(cell.engine).check(build_plan(plan, cell, _NO_GRAPH))
    return plan


def _check_builder(config: HarnessConfig, hw_stack: tuple[str, ...], engine: str) -> None:
    """Raise UserError where a technique is the builder's level itself, so that an option would take it away."""
    if "builder_level" not in get(engine).own_options:
        return
    for name in ("builder_level", "tiling"):
        value = getattr(config.engine, name)
        if value is None:
            continue
        if "compiled" in hw_stack:
            raise UserError(f"engine.{name}={value}: hw=compiled is the engine at its own settings; leave one out.")
        if "fusion" in hw_stack and config.reference == "engine":
            raise UserError(
                f"engine.{name}={value}: hw=fusion with reference=engine compares the builder's least with its most, "
                "which this would make one; leave one out."
            )

"""Which cells a quartet has, and what is on in each of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from harness.config import HarnessConfig, arch_off
from harness.engines import get
from harness.engines.base import Graph
from harness.measure.cell import CellPlan, QuartetPlan
from harness.measure.settings import resolve_protocol
from harness.sweep.plan.config_limits import check_config
from harness.sweep.plan.request import build_plan
from harness.techniques import arch, hw
from harness.techniques.levels import off

_NO_GRAPH = Graph(Path(), "", (), (), 0)  # stands in where only the options of a plan are looked at


def plan_quartet(config: HarnessConfig, engine: str, device: str) -> QuartetPlan:
    """Return the plan of a validated config on a resolved engine; raise UserError for what can't be combined."""
    check_config(config)
    config = replace(config, protocol=resolve_protocol(config.protocol, device))
    arch_stack = arch.enabled(config.arch)
    hw_stack = hw.enabled(config.hw)
    plain = arch_off()
    reference = config.reference_engine(engine)
    # the identity control is the reference once more, so it stays on what the reference runs on
    hw_engine = reference if hw_stack == ("identity",) else engine
    if hw_stack:
        hw.check_stack(config, get(hw_engine))
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

"""Config -> plan: which cells a quartet has, what is on in each, and what its engine builds.

Decides everything and does nothing.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import psutil

from harness.config import (
    CHECKPOINTS_RANGES,
    DATA_RANGES,
    MODEL_RANGES,
    PROFILE_RANGES,
    PROTOCOL_RANGES,
    QUARTET_RANGES,
    SCENARIO_RANGES,
    TRAIN_RANGES,
    HarnessConfig,
    arch_off,
    at_least,
    check_ranges,
    engine_ranges,
    one_of,
    packages,
)
from harness.engines import get
from harness.engines.base import BuildPlan, Graph, Option
from harness.measure.cell import CellPlan, QuartetPlan
from harness.measure.settings import resolve_protocol
from harness.networks.data import LABELLED, UNLABELLED
from harness.networks.own_code import of_another_package
from harness.sweep.scenarios import scenario_of
from harness.system.errors import UserError
from harness.system.machine import gpu, usable_cores
from harness.techniques import arch, hw
from harness.techniques.arch.options import RANGES as ARCH_RANGES
from harness.tracking.store import resolve_uri

_NO_GRAPH = Graph(Path(), "", (), (), 0)  # stands in where only the options of a plan are looked at
BOUNDARIES = {"cpu": ("wall",), "cuda": ("device", "wall", "end_to_end")}


def plan_quartet(config: HarnessConfig, engine: str, device: str) -> QuartetPlan:
    """Return the plan of a validated config on a resolved engine; raise UserError for what can't be combined."""
    check_config(config)
    config = replace(config, protocol=resolve_protocol(config.protocol, device))
    config = replace(config, protocol=replace(config.protocol, builds=builds_of(config, engine, device)))
    arch_stack = arch.enabled(config.arch)
    hw_stack = hw.enabled(config.hw)
    plain = arch_off()
    reference = config.reference_engine(engine)
    # the identity control is the reference once more, so it stays on what the reference runs on
    hw_engine = reference if hw_stack == ("identity",) else engine
    if hw_stack:
        hw.check_stack(config, get(hw_engine))
    levels_off = hw.base_levels(config)
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
        name = hw_engine if with_hw else reference
        levels = hw.on_engine(levels_on if with_hw else levels_off, get(name))
        if with_arch and "identity" in arch_stack:
            levels = replace(levels, instance="arch-identity " + levels.instance)
        cells.append(
            CellPlan(
                role=role,
                arch=config.arch if with_arch else plain,
                engine=name,
                levels=levels,
            )
        )
    plan = QuartetPlan(config, device, cells[-1].engine, arch_stack, hw_stack, tuple(cells))
    for cell in plan.cells:
        _check_chip(plan, cell)
        with of_another_package(packages.ENGINES, cell.engine, "check"):
            get(cell.engine).check(build_plan(plan, cell, _NO_GRAPH))
    return plan


def _check_chip(plan: QuartetPlan, cell: CellPlan) -> None:
    """Raise UserError where the NVIDIA chip that a cell is built for does not have its precision."""
    local = gpu() if plan.device == "cuda" else None
    here = local["compute_capability"] if local else None
    text = plan.config.engine.compute_capability or here
    chip, needed = _numbers(str(text)) if text else None, cell.levels.precision.compute_capability
    if chip is not None and chip < needed:
        name, oldest = cell.levels.precision.name, ".".join(map(str, needed))
        raise UserError(
            f"hw=[{','.join(plan.hw)}]: a chip of compute capability {text} has no {name}: {oldest} has it."
        )


BUILDS = 3  # of an engine whose builds differ, by default


def builds_of(config: HarnessConfig, engine: str, device: str) -> int:
    """Return how many builds are measured: the requested number, else several if a build tunes itself on the device."""
    if config.protocol.builds is not None:
        return config.protocol.builds
    differ = get(engine).builds_differ(config, device)
    return BUILDS if differ and scenario_of(config).replicates_builds else 1


def check_config(config: HarnessConfig) -> None:
    """Check what a type can't, on whatever engine: ranges, names, techniques that exclude each other."""
    check_options(config)
    arch.check_config(config)
    hw.check_stack(config, engine=None)
    with of_another_package(packages.SCENARIOS, config.scenario.name, "check"):
        scenario_of(config).check(config)


def check_options(config: HarnessConfig) -> None:
    """Check each option's value by itself, without importing torch: a wrong number is refused as fast as a wrong name.

    Raises UserError for the first that is out of its range.
    """
    check_ranges("", config, QUARTET_RANGES)
    check_ranges("model", config.model, MODEL_RANGES)
    check_ranges("data", config.data, {"name": one_of(UNLABELLED, *LABELLED), **DATA_RANGES})
    check_ranges("engine", config.engine, engine_ranges())
    check_ranges("protocol", config.protocol, PROTOCOL_RANGES)
    check_ranges("protocol", config.protocol, {"max_blocks": at_least(config.protocol.min_blocks)})
    check_ranges("profile", config.profile, PROFILE_RANGES)
    check_ranges("train", config.train, TRAIN_RANGES)
    check_ranges("checkpoints", config.checkpoints, CHECKPOINTS_RANGES)
    for name in arch.enabled(config.arch):
        check_ranges(f"arch.{name}", getattr(config.arch, name), ARCH_RANGES.get(name, {}))
    for name in hw.enabled(config.hw):  # its module may leave them out
        check_ranges(f"hw.{name}", getattr(config.hw, name), getattr(hw.technique(name), "RANGES", {}))
    check_ranges("scenario", config.scenario, SCENARIO_RANGES)
    resolve_uri(config.tracking.uri, config.tracking.root)


def check_boundary(config: HarnessConfig, device: str) -> None:
    """Raise UserError for a primary boundary or a precision that the device does not have."""
    if config.precision.tf32 and device == "cpu":
        raise UserError("precision.tf32=true: a CPU has no TF32; leave it out.")
    if config.protocol.primary not in ("auto", *BOUNDARIES[device]):
        known = ", ".join(BOUNDARIES[device])
        raise UserError(f"protocol.primary={config.protocol.primary}: on {device} there is only {known}.")


def build_plan(plan: QuartetPlan, cell: CellPlan, graph: Graph, recipe: str = "", stage: str = "") -> BuildPlan:
    """Return the build plan of one stage of a cell."""
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
    found = _numbers(str(text))
    if found is None:
        raise UserError(f"engine.compute_capability={text}: write it as major.minor, for example 8.9.")
    return found


def _numbers(text: str) -> tuple[int, int] | None:
    """Return "8.9" as (8, 9), None for a text that isn't such a pair."""
    major, dot, minor = text.partition(".")
    return (int(major), int(minor)) if dot and major.isdigit() and minor.isdigit() else None


def cpu_threads() -> int:
    """Return the physical cores this process may use."""
    allowed = usable_cores()
    return max(1, min(allowed, psutil.cpu_count(logical=False) or allowed))


def _engine_options(plan: QuartetPlan, cell: CellPlan) -> dict[str, Option]:
    """Return the options of every engine, and those this one reads from the config."""
    config, engine, levels = plan.config.engine, get(cell.engine), cell.levels
    options: dict[str, Option] = {}
    if plan.device == "cpu":
        options["threads"] = config.threads or cpu_threads()
    if levels.fusion_step:
        options["fusion_step"] = levels.fusion_step
    requested = {option.name: config.option(option.name) for option in engine.options}
    return options | engine.settings(requested, levels, plan.device)

"""Config -> plan: which cells a quartet has, and what each one is made of. Decides everything, does nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

from harness import arch, hw
from harness.config import ArchConfig, HarnessConfig
from harness.data import LABELLED, UNLABELLED
from harness.engines import get
from harness.engines.base import BuildPlan, Graph, Option
from harness.engines.levels import BatchProfile, Levels, off
from harness.errors import UserError
from harness.measure.settings import settled
from harness.scenarios.options import check_scenario

BOUNDARIES = {"cpu": ("wall",), "cuda": ("device", "wall", "end_to_end")}
_NO_GRAPH = Graph(Path(), "", (), (), 0)  # stands in where only the options of a plan are looked at


@dataclass(frozen=True)
class CellPlan:
    """One cell before anything was built."""

    role: str  # baseline | arch | hw | combined
    arch: ArchConfig  # techniques that are off in this cell are off here
    engine: str
    levels: Levels


@dataclass(frozen=True)
class QuartetPlan:
    """One Hydra job: the cells of a 2x2 design, or the one or two that are left without a technique."""

    config: HarnessConfig
    device: str  # cpu | cuda
    engine: str  # resolved; what the last cell runs on
    arch: tuple[str, ...]
    hw: tuple[str, ...]
    cells: tuple[CellPlan, ...]

    @property
    def primary(self) -> str:
        """The boundary that verdicts use."""
        asked = self.config.protocol.primary
        return asked if asked != "auto" else ("device" if self.device == "cuda" else "wall")

    @property
    def label(self) -> str:
        """A short name: what is tested, first."""
        if not self.arch and not self.hw:
            return "baseline"
        return f"{'+'.join(self.arch) or 'none'} x {'+'.join(self.hw) or 'none'}"


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


def check_boundary(config: HarnessConfig, device: str) -> None:
    """Raise UserError for a primary boundary or a precision that the device does not have."""
    if config.precision.tf32 and device == "cpu":
        raise UserError("precision.tf32=true: a CPU has no TF32; leave it out.")
    if config.protocol.primary not in ("auto", *BOUNDARIES[device]):
        known = ", ".join(BOUNDARIES[device])
        raise UserError(f"protocol.primary={config.protocol.primary}: on {device} there is only {known}.")


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


def cpu_threads() -> int:
    """Return the physical cores this process may use."""
    import os

    import psutil

    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(allowed, psutil.cpu_count(logical=False) or allowed))


def check_config(config: HarnessConfig) -> None:
    """Check what a type can't, on whatever engine: ranges, names, techniques that exclude each other."""
    protocol = config.protocol
    names = {
        "reference": (config.reference, ("eager", "engine")),
        "data": (config.data.name, (UNLABELLED, *LABELLED)),
        "engine.device": (config.engine.device, ("auto", "cpu", "cuda")),
        "protocol.primary": (protocol.primary, ("auto", "device", "wall", "end_to_end")),
    }
    for name, (value, allowed) in names.items():
        if value not in allowed:
            raise UserError(f"{name}={value}: choose one of {', '.join(allowed)}.")
    at_least = {
        "batch_size": (config.batch_size, 1),
        "model.image_size": (config.model.image_size, 32),
        "model.num_classes": (config.model.num_classes, 2),
        "engine.threads": (1 if config.engine.threads is None else config.engine.threads, 1),
        "engine.workspace_mb": (1 if config.engine.workspace_mb is None else config.engine.workspace_mb, 1),
        "engine.build_jobs": (1 if config.engine.build_jobs is None else config.engine.build_jobs, 1),
        "protocol.min_blocks": (protocol.min_blocks, 1),
        "protocol.max_blocks": (protocol.max_blocks, protocol.min_blocks),
        "protocol.restarts": (protocol.restarts, 1),
        "protocol.builds": (protocol.builds, 1),
        "protocol.warmup_windows": (protocol.warmup_windows, 1),
        "protocol.ramp_iterations": (protocol.ramp_iterations, 0),
        "protocol.seed": (protocol.seed, 0),
        "data.seed": (config.data.seed, 0),
        "model.seed": (config.model.seed, 0),
    }
    for name, (number, least) in at_least.items():
        if number < least:
            raise UserError(f"{name}={number}: must be at least {least}.")
    for sizes in config.engine.profiles or ():
        if len(sizes) != 3 or not 1 <= sizes[0] <= sizes[1] <= sizes[2]:
            raise UserError(f"engine.profiles={config.engine.profiles}: each must be [min,opt,max], 1 or more, rising.")
    if config.engine.timing_cache_pinned and not config.engine.timing_cache:
        raise UserError("engine.timing_cache_pinned=true needs engine.timing_cache=true: drop one of the two.")
    positive = ("slice_s", "half_width", "budget_s", "worker_timeout_s", "warmup_max_s", "warmup_tolerance")
    for name in positive:
        value = getattr(protocol, name)
        if value is not None and not (math.isfinite(value) and value > 0):
            raise UserError(f"protocol.{name}={value}: must be a positive number.")
    if not (math.isfinite(protocol.energy_s) and protocol.energy_s >= 0):
        raise UserError(f"protocol.energy_s={protocol.energy_s}: must be a number of seconds, 0 for none.")
    for name in ("margin", "level"):
        if not 0 < getattr(protocol, name) < 1:
            raise UserError(f"protocol.{name}={getattr(protocol, name)}: must be between 0 and 1.")
    if config.arch.early_exit.max_accuracy_drop is not None and config.data.name == UNLABELLED:
        raise UserError(
            "arch.early_exit.max_accuracy_drop needs labelled data: data=digits, image_folder, huggingface."
        )
    stack = arch.enabled(config.arch)
    if "identity" in stack and len(stack) > 1:
        raise UserError(f"arch=[{','.join(stack)}]: identity stacks with nothing; use it alone.")
    hw.check_stack(config, engine="")
    check_scenario(config)

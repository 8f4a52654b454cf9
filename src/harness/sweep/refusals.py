"""Plan a sweep: each quartet once, one device and engine for all; whatever can't be done is refused here."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

from harness.config import HarnessConfig, ModelConfig, TrainConfig, engine_options
from harness.engines import PREFERENCE, get
from harness.measure.cell import QuartetPlan
from harness.networks.data.labelled import check_data
from harness.sweep.command_line import Job
from harness.sweep.job import PlannedJob
from harness.sweep.plan import check_boundary, check_config, plan_quartet
from harness.system.errors import UserError
from harness.system.shared_cache import SharedCache
from harness.techniques.finetuned import base_model, check_weights

if TYPE_CHECKING:
    from torch import nn


MOST_CHARACTERS = 200  # of a sweep's name


@dataclass(frozen=True)
class PlannedSweep:
    """All quartets of a sweep, planned, and what they run on."""

    jobs: tuple[PlannedJob, ...]  # in the order of the grid
    engines: dict[str, str]  # as requested ("auto", or a name) -> resolved
    reason: str  # why `auto` became what it is; "" where nothing was left open
    device: str


def plan_sweep(jobs: Sequence[Job]) -> PlannedSweep:
    """Plan every quartet of a sweep once; raise UserError if one of them can't be measured."""
    configs = [job.config for job in jobs]
    for config in configs:
        check_config(config)
        check_sweep_name(config.sweep_name)
        check_data(base_model(config), config.data)
        if config.train != TrainConfig():
            raise UserError("options train.* are for python -m harness.train; a measurement trains nothing.")
    check_weights(configs)
    check_architectures(configs)
    _check_shared(configs)
    device = device_of(configs[0])
    for config in configs:
        check_boundary(config, device)
    engines, reasons = {}, {}
    plans: dict[str, Iterator[QuartetPlan]] = {}
    for asked in dict.fromkeys(config.engine.name for config in configs):
        engines[asked], reasons[asked], found = engine_of_all([c for c in configs if c.engine.name == asked], device)
        plans[asked] = iter(found)
    planned = tuple(PlannedJob(next(plans[job.config.engine.name]), job.text) for job in jobs)
    check_engine_options([one.plan for one in planned])
    check_writable(Path(configs[0].cache.dir), "cache.dir")
    if configs[0].cache.shared:
        SharedCache(configs[0].cache.shared)  # it refuses a place that can't be written
    return PlannedSweep(planned, engines, reasons.get("auto", ""), device)


def _check_shared(configs: Sequence[HarnessConfig]) -> None:
    """Raise UserError where jobs differ in what a sweep has once: its device, its store, its correction."""
    for name in (
        "engine.device",
        "engine.build_only",
        "engine.build_jobs",
        "tracking",
        "cache",
        "sweep_name",
        "resume",
        "protocol.family",
    ):
        if any(attrgetter(name)(config) != attrgetter(name)(configs[0]) for config in configs):
            raise UserError(
                f"{name} differs between the jobs of this sweep, but a sweep has one: run one sweep for each choice."
            )


def check_engine_options(plans: Sequence[QuartetPlan]) -> None:
    """Raise UserError for an option that no cell of the sweep reads: it would look as if it did something."""
    for name, by_engine in engine_options().items():
        default = next(iter(by_engine.values())).default
        cells = [cell for plan in plans if plan.config.engine.option(name) != default for cell in plan.cells]
        running = {cell.engine: by_engine.get(cell.engine) for cell in cells}
        able = [option for option in running.values() if option is not None]
        if cells and not able:
            raise UserError(
                f"engine.{name} is for {' or '.join(by_engine)}, and this sweep runs on {', '.join(sorted(running))}: "
                f"drop it, or choose engine={next(iter(by_engine))}."
            )
        if cells and not any((option := by_engine.get(cell.engine)) and option.reads(cell.levels) for cell in cells):
            raise UserError(f"engine.{name} needs {able[0].needs}")


def check_architectures(configs: Sequence[HarnessConfig]) -> None:
    """Check each distinct model and arch stack once: a stack can be impossible only for this model."""
    from harness import networks as models
    from harness.techniques import arch, hw

    seen: set[str] = set()
    built: dict[str, nn.Module] = {}
    for config in configs:
        model = base_model(config)
        model_key = _key(model)
        key = model_key + json.dumps(asdict(config.arch))
        if key in seen:
            continue
        seen.add(key)
        if model_key not in built:
            built[model_key] = models.build(model)
        arch.check_stack(built[model_key], config.arch)
    for config in configs:
        hw.check_network(built[_key(base_model(config))], config)


def _key(model: ModelConfig) -> str:
    return json.dumps(asdict(model))


def check_sweep_name(name: str | None) -> None:
    """Raise UserError for a sweep's name that a report or an export could not use as a file's name as it is."""
    if name is None:
        return
    bad = "".join(sorted({c for c in name if c in "/\\" or not c.isprintable()}))
    if bad or name.strip(". ") == "" or len(name) > MOST_CHARACTERS:
        found = f"it has {bad!a}" if bad else f"it has {len(name)} characters"
        raise UserError(
            f"sweep_name={name[:80]!a} is no plain name ({found}): use 1 to {MOST_CHARACTERS} printable characters "
            "without / and \\, not dots alone."
        )


def check_writable(folder: Path, option: str) -> None:
    """Raise UserError unless files can be written in `folder`; nothing is left behind, the folder included."""
    made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"{option}={folder}: can't write there ({error.strerror}); choose another folder.") from None
    finally:
        for parent in made:
            with suppress(OSError):  # never made, or somebody else's files are in it by now
                parent.rmdir()


def device_of(config: HarnessConfig) -> str:
    """Return cpu or cuda; raise UserError where a GPU is asked for and there is none."""
    import torch

    asked = config.engine.device
    has_gpu = torch.cuda.is_available()
    if asked == "cuda" and not has_gpu:
        raise UserError("engine.device=cuda: torch sees no CUDA GPU here; use engine.device=cpu or auto.")
    return ("cuda" if has_gpu else "cpu") if asked == "auto" else asked


def engine_of_all(configs: Sequence[HarnessConfig], device: str) -> tuple[str, str, list[QuartetPlan]]:
    """Return the engine of jobs that ask for the same one, why, and their plans on it.

    It is the one that is named, or the first in order of preference that can do all.
    """
    asked = configs[0].engine.name
    build_only = configs[0].engine.build_only
    if asked != "auto":
        get(asked)  # an unknown name first
        plans = _plans(asked, configs, device)
        if isinstance(plans, str):
            raise UserError(plans + _alternative(asked, configs, device))
        if not any(cell.engine == asked for plan in plans for cell in plan.cells):
            raise UserError(
                f"engine={asked}: no cell of this sweep runs on it, for with reference=eager only hw techniques do.\n"
                "Add hw=fusion (or another one), or reference=engine to run the baseline on it too."
            )
        return asked, "as asked", plans
    refused: list[str] = []
    for name in PREFERENCE[device]:
        plans = _plans(name, configs, device)
        if not isinstance(plans, str):
            verb = "build" if build_only else "run"
            why = f"the first in order of preference that can {verb} every cell here"
            return name, "\n  ".join([why, *refused]), plans
        refused.append(f"not {name}: {plans.removeprefix(f'engine {name} ')}")
    raise UserError("no engine can do every cell of this sweep:\n  " + "\n  ".join(refused))


def _plans(name: str, configs: Sequence[HarnessConfig], device: str) -> list[QuartetPlan] | str:
    """Return the plan of every job on an engine, or why it can't do one of them."""
    engine = get(name)
    build_only = configs[0].engine.build_only
    availability = engine.availability(device)
    if build_only and availability.build is not None:
        return f"engine {name} can't build here: {availability.build.rstrip('.')}."
    if not build_only and availability.run is not None:
        able = "can build but not run here" if availability.build is None else "can't run here"
        return f"engine {name} {able}: {availability.run.rstrip('.')}."
    try:
        return [plan_quartet(config, name, device) for config in configs]
    except UserError as error:
        return str(error)


def _alternative(asked: str, configs: Sequence[HarnessConfig], device: str) -> str:
    """Return which engine would run instead, and how to build without running."""
    if configs[0].engine.build_only:
        return ""
    others = [name for name in PREFERENCE[device] if name != asked]
    runs = next((name for name in others if get(name).availability(device).run is None), None)
    text = f"\nengine={runs} runs here" if runs else ""
    if get(asked).availability(device).build is None and get(asked).availability(device).run is not None:
        text += "; engine.build_only=true engine.compute_capability=8.9 builds without running"
    return text + "." if text else ""

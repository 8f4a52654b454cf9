"""Before any work: check every job of a sweep, choose its device and engine, open the store. Errors end here."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

from harness.compose.command_line import Job
from harness.config import EngineConfig, HarnessConfig, TrainConfig
from harness.data.labelled import check_data
from harness.engines import PREFERENCE, get, names
from harness.engines.shared import SharedCache
from harness.errors import UserError
from harness.finetuned import base_model, check_weights
from harness.plan import QuartetPlan, check_boundary, check_config, plan_quartet
from harness.safe_names import check_sweep_name

if TYPE_CHECKING:
    from torch import nn

CONTEXT_VARIABLE = "HARNESS_SWEEP"  # an environment variable reaches the jobs of every launcher


@dataclass(frozen=True)
class SweepContext:
    """What the jobs of one sweep share."""

    sweep_id: str
    name: str
    engines: dict[str, str]  # as asked for ("auto", or a name) -> resolved
    device: str
    total: int  # jobs
    store_uri: str
    store_root: str
    store_experiment: str

    def publish(self) -> None:
        """Hand this to the jobs, in whatever process they run."""
        os.environ[CONTEXT_VARIABLE] = json.dumps(asdict(self))

    @staticmethod
    def received() -> SweepContext:
        """Return what `publish` handed over."""
        return SweepContext(**json.loads(os.environ[CONTEXT_VARIABLE]))


@dataclass(frozen=True)
class Resolved:
    """What a sweep runs on."""

    engines: dict[str, str]  # as asked for ("auto", or a name) -> resolved
    reason: str  # why `auto` became what it is; "" where nothing was left open
    device: str

    def engine_of(self, config: HarnessConfig) -> str:
        """Return the engine of one job."""
        return self.engines[config.engine.name]


def check_sweep(jobs: Sequence[Job]) -> Resolved:
    """Return what a sweep runs on, all of whose jobs can be done; raise UserError if one can't."""
    configs = [job.config for job in jobs]
    for config in configs:
        check_config(config)
        check_sweep_name(config.sweep_name)
        check_data(base_model(config), config.data)
        if config.train != TrainConfig():
            raise UserError("options train.* are for python -m harness.train; a measurement trains nothing.")
    check_weights(configs)
    _check_architectures(configs)
    _check_shared(configs)
    device = device_of(configs[0])
    for config in configs:
        check_boundary(config, device)
    engines, reasons = {}, {}
    for asked in dict.fromkeys(config.engine.name for config in configs):
        engines[asked], reasons[asked] = _engine([c for c in configs if c.engine.name == asked], device)
    _check_engine_options(configs, engines)
    check_writable(Path(configs[0].cache.dir), "cache.dir")
    if configs[0].cache.shared:
        SharedCache(configs[0].cache.shared)  # it refuses a place that can't be written
    return Resolved(engines, reasons.get("auto", ""), device)


def _check_shared(configs: Sequence[HarnessConfig]) -> None:
    """Raise UserError where jobs differ in what a sweep has once: its device, its store, its cache."""
    for name in (
        "engine.device",
        "engine.build_only",
        "engine.build_jobs",
        "tracking",
        "cache",
        "sweep_name",
        "resume",
    ):
        if any(attrgetter(name)(config) != attrgetter(name)(configs[0]) for config in configs):
            raise UserError(
                f"{name} differs between the jobs of this sweep, but a sweep has one: run one sweep for each choice."
            )


def _check_engine_options(configs: Sequence[HarnessConfig], resolved: Mapping[str, str]) -> None:
    """Raise UserError for an option that no engine of the sweep takes: it would look as if it did something."""
    takers: dict[str, list[str]] = {}
    for engine in names():
        for option in get(engine).own_options:
            takers.setdefault(option, []).append(engine)
    for option, able in takers.items():
        usual = getattr(EngineConfig(), option)
        asked = [config for config in configs if getattr(config.engine, option) != usual]
        running = {engine for config in asked for engine in _running(config, resolved[config.engine.name])}
        if asked and not running.intersection(able):
            raise UserError(
                f"engine.{option} is for {' or '.join(able)}, and this sweep runs on {', '.join(sorted(running))}: "
                f"drop it, or choose engine={able[0]}."
            )
        if option == "profiles" and asked and not any(config.hw.dynamic_batching.enabled for config in asked):
            raise UserError("engine.profiles needs hw=dynamic_batching: a static batch has no ranges.")


def _running(config: HarnessConfig, engine: str) -> set[str]:
    """Return the engines that a job's cells run on."""
    return {engine, "eager"} if config.reference == "eager" else {engine}


def _check_architectures(configs: Sequence[HarnessConfig]) -> None:
    """Check each distinct model and arch stack once: a stack can be impossible only for this model."""
    from harness import arch, models
    from harness.arch.anatomy import require_densenet

    seen: set[str] = set()
    built: dict[str, nn.Module] = {}
    for config in configs:
        model = base_model(config)
        model_key = json.dumps(asdict(model))
        key = model_key + json.dumps(asdict(config.arch))
        if key in seen:
            continue
        seen.add(key)
        if model_key not in built:
            built[model_key] = models.build(model)
        arch.check_stack(built[model_key], config.arch)
    for config in configs:
        if config.hw.fusion.enabled and config.hw.fusion.dense_blocks:
            require_densenet(built[json.dumps(asdict(config.model))], "hw.fusion.dense_blocks=true runs dense blocks")


def device_of(config: HarnessConfig) -> str:
    """Return cpu or cuda; raise UserError where a GPU is asked for and there is none."""
    import torch

    asked = config.engine.device
    has_gpu = torch.cuda.is_available()
    if asked == "cuda" and not has_gpu:
        raise UserError("engine.device=cuda: torch sees no CUDA GPU here; use engine.device=cpu or auto.")
    return ("cuda" if has_gpu else "cpu") if asked == "auto" else asked


def _engine(configs: Sequence[HarnessConfig], device: str) -> tuple[str, str]:
    """Return the engine of jobs that ask for the same one, and why: the named one, or the first that can do all."""
    asked = configs[0].engine.name
    build_only = configs[0].engine.build_only
    if asked != "auto":
        get(asked)  # an unknown name first
        problem = _problem(asked, configs, device)
        if problem is not None:
            raise UserError(problem + _alternative(asked, configs, device))
        plans = [plan_quartet(config, asked, device) for config in configs]
        if not any(cell.engine == asked for plan in plans for cell in plan.cells):
            raise UserError(
                f"engine={asked}: no cell of this sweep runs on it, for with reference=eager only hw techniques do.\n"
                "Add hw=fusion (or another one), or reference=engine to run the baseline on it too."
            )
        return asked, "as asked"
    refused: list[str] = []
    for name in PREFERENCE[device]:
        problem = _problem(name, configs, device)
        if problem is None:
            verb = "build" if build_only else "run"
            why = f"the first in order of preference that can {verb} every cell here"
            return name, "\n  ".join([why, *refused])
        refused.append(f"not {name}: {problem.removeprefix(f'engine {name} ')}")
    raise UserError("no engine can do every cell of this sweep:\n  " + "\n  ".join(refused))


def _problem(name: str, configs: Sequence[HarnessConfig], device: str) -> str | None:
    """Return why an engine can't do every job of the sweep, or None."""
    engine = get(name)
    build_only = configs[0].engine.build_only
    availability = engine.availability(device)
    if build_only and availability.build is not None:
        return f"engine {name} can't build here: {availability.build.rstrip('.')}."
    if not build_only and availability.run is not None:
        able = "can build but not run here" if availability.build is None else "can't run here"
        return f"engine {name} {able}: {availability.run.rstrip('.')}."
    for config in configs:
        try:
            plan_quartet(config, name, device)
        except UserError as error:
            return str(error)
    return None


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


def sweep_label(plans: Sequence[QuartetPlan]) -> str:
    """Return a name made from the grid: model, arch and hw choices."""
    arch = ",".join(dict.fromkeys("+".join(plan.arch) or "none" for plan in plans))
    hw = ",".join(dict.fromkeys("+".join(plan.hw) or "none" for plan in plans))
    return f"{arch} x {hw} on {plans[0].config.model.name}"

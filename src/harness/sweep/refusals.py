"""Plan a sweep: each quartet once, one device and engine for all; whatever can't be done is refused here."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.config import HarnessConfig, engine_options
from harness.engines import PREFERENCE, get
from harness.measure.cell import QuartetPlan
from harness.sweep.checks import check_job, check_shared, check_writable
from harness.sweep.command_line import Job
from harness.sweep.devices import alternative, device_of, unable
from harness.sweep.job import PlannedJob
from harness.sweep.plan import check_boundary, check_config, plan_quartet
from harness.sweep.reasons import LeftOut, Reasons
from harness.sweep.scenarios import scenario_of
from harness.system.cache import SharedCache
from harness.system.counts import counted
from harness.system.errors import UserError
from harness.system.locks import check_folder
from harness.techniques.finetuned import base_model, check_weights

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class PlannedSweep:
    """All quartets of a sweep, planned, and what they run on."""

    jobs: tuple[PlannedJob, ...]  # in the order of the grid
    engines: dict[str, str]  # as requested ("auto", or a name) -> resolved
    reason: str  # why `auto` became what it is; "" where nothing was left open
    device: str
    left_out: tuple[LeftOut, ...] = ()  # with `on_unsupported=skip`


def plan_sweep(jobs: Sequence[Job]) -> PlannedSweep:
    """Plan every quartet of a sweep once; raise UserError with all reasons why jobs of it can't be measured.

    With `on_unsupported=skip` those jobs are left out, as long as there are others.
    """
    configs = [job.config for job in jobs]
    reasons = Reasons(jobs)
    with reasons.of_all():
        check_shared(configs)
    skip = configs[0].on_unsupported == "skip"
    _judge(configs, reasons)
    with reasons.of_all():
        check_writable(Path(configs[0].cache.dir), "cache.dir")
        check_folder()
        if configs[0].cache.shared:
            SharedCache(configs[0].cache.shared)  # it refuses a place that can't be written
    device = ""
    with reasons.of_all():
        device = device_of(configs[0])
    if not device:
        reasons.raise_for(skip)
    for number in reasons.able():
        with reasons.of(number):
            check_boundary(configs[number], device)
    engines, why, plans = _choose_engines(configs, device, reasons)
    reasons.raise_for(skip)
    check_engine_options(list(plans.values()))
    _check_profile([word for job in jobs for word in job.overrides], list(plans.values()))
    planned = tuple(PlannedJob(plan, jobs[number].text) for number, plan in sorted(plans.items()))
    return PlannedSweep(planned, engines, why, device, reasons.left_out())


def _judge(configs: Sequence[HarnessConfig], reasons: Reasons) -> None:
    """Check each job by itself, on whatever engine and device; what can't be done of a network is found once."""
    built: dict[str, nn.Module | UserError] = {}
    for number, config in enumerate(configs):
        with reasons.of(number):
            check_config(config)
            check_job(config)
            check_weights([config])
            check_architecture(config, built)


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


def _check_profile(words: Sequence[str], plans: Sequence[QuartetPlan]) -> None:
    """Raise UserError for a range of batch sizes on the command line where no cell of the sweep has a dynamic batch."""
    requested = [word for word in words if word.lstrip("+").startswith("profile.")]
    if requested and all(cell.levels.batch.is_static for plan in plans for cell in plan.cells):
        raise UserError(
            f"{requested[0]}: no cell of this sweep has a dynamic batch; add hw=dynamic_batching, or drop it."
        )


def check_architecture(config: HarnessConfig, checked: dict[str, nn.Module | UserError]) -> None:
    """Check a model and its stacks, which can be impossible for this model alone; raise UserError.

    `checked` holds what was found for other jobs: each distinct model is built, and each arch stack tried, once.
    """
    from harness import networks as models
    from harness.techniques import arch, hw
    from harness.techniques.arch.stages import stages

    model = base_model(config)
    model_key = json.dumps(asdict(model))
    network = _once(checked, model_key, lambda: models.build(model))

    def try_stack() -> nn.Module:
        arch.check_stack(network, config.arch)
        return network

    _once(checked, model_key + json.dumps(asdict(config.arch)), try_stack)
    hw.check_network(network, config)
    outputs = stages(network)[-1].output_names
    if len(outputs) > 1 and scenario_of(config).has_requests:
        raise UserError(
            f"scenario={config.scenario.name}: a request is answered with one tensor, and model={config.model.name} "
            f"gives {', '.join(outputs)}; return one of them, or use scenario=fixed."
        )


def _once(found: dict[str, nn.Module | UserError], key: str, make: Callable[[], nn.Module]) -> nn.Module:
    """Return what `make` gives, or raise its UserError, calling it once for each key."""
    if key not in found:
        try:
            found[key] = make()
        except UserError as error:
            found[key] = error
    network = found[key]
    if isinstance(network, UserError):
        raise network
    return network


@dataclass(frozen=True)
class _Choice:
    """An engine for jobs that ask for the same one; of a job that it can't do, why."""

    name: str
    why: str
    plans: list[QuartetPlan | str]  # a job's plan, or why there is none


def _choose_engines(
    configs: Sequence[HarnessConfig], device: str, reasons: Reasons
) -> tuple[dict[str, str], str, dict[int, QuartetPlan]]:
    """Return each engine as requested -> resolved, why `auto` became what it is, and the plans by the job's number."""
    engines: dict[str, str] = {}
    auto, plans = "", {}
    for requested in dict.fromkeys(configs[number].engine.name for number in reasons.able()):
        numbers = [number for number in reasons.able() if configs[number].engine.name == requested]
        with reasons.of(*numbers):
            choice = _choose_engine([configs[number] for number in numbers], device, numbers, reasons)
            engines[requested] = choice.name
            auto = choice.why if requested == "auto" else auto
            for number, plan in zip(numbers, choice.plans, strict=True):
                if isinstance(plan, str):
                    reasons.add([number], plan)
                else:
                    plans[number] = plan
    return engines, auto, plans


def _choose_engine(configs: Sequence[HarnessConfig], device: str, numbers: Sequence[int], reasons: Reasons) -> _Choice:
    """Return the engine that is named, or of `auto` the first in order of preference that can do all.

    Where none can do all: with `on_unsupported=skip` the one that can do the most, else UserError.
    """
    requested = configs[0].engine.name
    if requested != "auto":
        return _named_engine(requested, configs, device)
    verb = "build" if configs[0].engine.build_only else "run"
    tried: dict[str, list[QuartetPlan | str]] = {}
    refused: list[str] = []
    for name in PREFERENCE[device]:
        plans = tried[name] = _plans(name, configs, device)
        if not any(isinstance(plan, str) for plan in plans):
            why = f"the first in order of preference that can {verb} every cell here"
            return _Choice(name, "\n  ".join([why, *refused]), plans)
        refused += _refused(name, plans, numbers, reasons)
    able = {name: sum(not isinstance(plan, str) for plan in plans) for name, plans in tried.items()}
    best = max(able, key=lambda name: able[name])  # the first in order of preference where several can do as many
    if configs[0].on_unsupported == "skip" and able[best]:
        why = f"no engine can {verb} every cell here; it can {verb} {able[best]} of {len(configs)} jobs"
        return _Choice(best, "\n  ".join([why, *refused]), tried[best])
    hint = (
        f"\non_unsupported=skip leaves out what {best} can't do and measures {counted(able[best], 'job')}."
        if able[best]
        else ""
    )
    raise UserError("no engine can do every cell of this sweep:\n  " + "\n  ".join(refused) + hint)


def _named_engine(requested: str, configs: Sequence[HarnessConfig], device: str) -> _Choice:
    get(requested)  # an unknown name first
    plans = _plans(requested, configs, device)
    found = [plan for plan in plans if not isinstance(plan, str)]
    if found and not any(cell.engine == requested for plan in found for cell in plan.cells):
        raise UserError(
            f"engine={requested}: no cell of this sweep uses it: "
            "with reference=eager only hw techniques use an engine.\n"
            "Add hw=fusion (or another one), or reference=engine to run the baseline on it too."
        )
    instead = alternative(configs[0], requested, device)
    return _Choice(requested, "as requested", [plan + instead if isinstance(plan, str) else plan for plan in plans])


def _refused(name: str, plans: Sequence[QuartetPlan | str], numbers: Sequence[int], reasons: Reasons) -> list[str]:
    """Return why not this engine, one line for each reason, with the jobs that it is one for."""
    by_text: dict[str, list[int]] = {}
    for number, plan in zip(numbers, plans, strict=True):
        if isinstance(plan, str):
            by_text.setdefault(plan.removeprefix(f"engine {name} "), []).append(number)
    names = {text: f" [{reasons.named(of)}]" if len(of) < len(numbers) else "" for text, of in by_text.items()}
    return [f"not {name}: {text}{names[text]}" for text in by_text]


def _plans(name: str, configs: Sequence[HarnessConfig], device: str) -> list[QuartetPlan | str]:
    """Return the plan of every job on an engine, or why it can't do that one."""
    reason = unable(configs[0], name, device)
    return [reason or _plan(config, name, device) for config in configs]


def _plan(config: HarnessConfig, engine: str, device: str) -> QuartetPlan | str:
    try:
        return plan_quartet(config, engine, device)
    except UserError as error:
        return str(error)

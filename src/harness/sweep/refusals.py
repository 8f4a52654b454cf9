"""Whether every job of a sweep can be done, and what the sweep has once; errors end here, before any work."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

from harness.config import EngineConfig, HarnessConfig, ModelConfig, TrainConfig
from harness.engines import get, names
from harness.measure.design import QuartetPlan
from harness.networks.data.labelled import check_data
from harness.sweep.command_line import Job
from harness.sweep.engine_choice import device_of, engine_of_all
from harness.sweep.folders import check_writable
from harness.sweep.names import check_sweep_name
from harness.sweep.plan import check_boundary, check_config
from harness.system.errors import UserError
from harness.system.shared_cache import SharedCache
from harness.techniques.finetuned import base_model, check_weights

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Resolved:
    """What a sweep runs on."""

    engines: dict[str, str]  # as asked for ("auto", or a name) -> resolved
    reason: str  # why `auto` became what it is; "" where nothing was left open
    device: str
    plans: tuple[QuartetPlan, ...]  # of the jobs, in their order


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
    _check_engine_options(configs, engines)
    check_writable(Path(configs[0].cache.dir), "cache.dir")
    if configs[0].cache.shared:
        SharedCache(configs[0].cache.shared)  # it refuses a place that can't be written
    in_order = tuple(next(plans[config.engine.name]) for config in configs)
    return Resolved(engines, reasons.get("auto", ""), device, in_order)


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


def check_architectures(configs: Sequence[HarnessConfig]) -> None:
    """Check each distinct model and arch stack once: a stack can be impossible only for this model."""
    from harness import networks as models
    from harness.techniques import arch
    from harness.techniques.arch.anatomy import require_densenet

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
        if config.hw.fusion.enabled and config.hw.fusion.dense_blocks:
            require_densenet(built[_key(base_model(config))], "hw.fusion.dense_blocks=true runs dense blocks")


def _key(model: ModelConfig) -> str:
    return json.dumps(asdict(model))

"""Which engine and device a sweep runs on: the one that is named, or the first that can run every cell."""

from __future__ import annotations

from collections.abc import Sequence

from harness.config import HarnessConfig
from harness.engines import PREFERENCE, get
from harness.measure.cell import QuartetPlan
from harness.sweep.plan import plan_quartet
from harness.system.errors import UserError


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

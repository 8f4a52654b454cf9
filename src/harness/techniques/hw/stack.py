"""The techniques that are on, in the one order they are applied in."""

from __future__ import annotations

import importlib
from dataclasses import asdict
from typing import Any, Protocol, cast

from harness.config import HarnessConfig, HwConfig
from harness.system.errors import UserError
from harness.techniques.levels import Levels

# precision first (it changes the graph), then shape, then what the engine does with both
ORDER = ("identity", "compiled", "fp16", "dynamic_batching", "fusion")
ALONE = ("identity", "compiled")  # these stack with nothing


class HwTechnique(Protocol):
    """What a technique's file offers."""

    name: str

    def check(self, options: Any, config: HarnessConfig, engine: str) -> None:
        """Raise UserError if `options` can't be built on `engine` ("": any); cheap."""

    def apply(self, levels: Levels, options: Any, config: HarnessConfig) -> Levels:
        """Return `levels` with what the technique switches on."""


def technique(name: str) -> HwTechnique:
    """Return the technique called `name`, one of `ORDER`."""
    return cast(HwTechnique, importlib.import_module(f"harness.techniques.hw.{name}"))


def enabled(config: HwConfig) -> tuple[str, ...]:
    """Return the names of the techniques that are on, in the order they are applied."""
    return tuple(name for name in ORDER if getattr(config, name).enabled)


def check_stack(config: HarnessConfig, engine: str) -> None:
    """Raise UserError if the stack can't be built on `engine` ("": any) or its techniques exclude each other."""
    stack = enabled(config.hw)
    for name in ALONE:
        if name in stack and len(stack) > 1:
            raise UserError(f"hw=[{','.join(stack)}]: {name} stacks with nothing; use it alone.")
    for name in stack:
        technique(name).check(getattr(config.hw, name), config, engine)


def apply_stack(levels: Levels, config: HarnessConfig) -> Levels:
    """Return the levels after all techniques that are on."""
    for name in enabled(config.hw):
        levels = technique(name).apply(levels, getattr(config.hw, name), config)
    return levels


def flat_options(config: HwConfig) -> dict[str, object]:
    """Return the options of the techniques that are on, as `hw.fp16.io`, without the switch itself."""
    return {
        f"hw.{name}.{option}": value
        for name in enabled(config)
        for option, value in asdict(getattr(config, name)).items()
        if option != "enabled"
    }

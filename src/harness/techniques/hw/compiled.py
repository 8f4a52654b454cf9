"""compiled: the engine's own default settings in fp32, alone: what a user gets who just "uses the engine"."""

from __future__ import annotations

from dataclasses import replace

from harness.config import HarnessConfig, Switch
from harness.system.errors import UserError
from harness.techniques.levels import HasCapabilities, Levels

name = "compiled"
Options = Switch


def check(options: Switch, config: HarnessConfig, engine: HasCapabilities | None) -> None:
    """Raise UserError with `reference=engine`, where it has no off level, and on an engine without settings."""
    if config.reference == "engine":
        raise UserError("hw=compiled has no off level on the engine itself: use reference=eager.")
    if engine is None:
        return
    if not engine.capabilities.compiles:
        raise UserError(f"hw=compiled: engine {engine.name} compiles nothing; choose another engine.")
    for option in engine.capabilities.fusion_options:
        if (value := config.engine.option(option)) is not None:
            raise UserError(f"engine.{option}={value}: hw=compiled is the engine at its own settings; leave one out.")


def apply(levels: Levels, options: Switch, config: HarnessConfig) -> Levels:
    """Return the levels with fusion at the engine's default."""
    return replace(levels, fusion="default")

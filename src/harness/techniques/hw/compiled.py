"""compiled: the engine's own default settings in fp32, alone: what a user gets who just "uses the engine"."""

from __future__ import annotations

from dataclasses import replace

from harness.config import HarnessConfig, Switch
from harness.system.errors import UserError
from harness.techniques.levels import Levels

name = "compiled"


def check(options: Switch, config: HarnessConfig, engine: str) -> None:
    """Raise UserError with `reference=engine`, where it has no off level, and on eager, which compiles nothing."""
    if config.reference == "engine":
        raise UserError("hw=compiled has no off level on the engine itself: use reference=eager.")
    if engine == "eager":
        raise UserError("hw=compiled: engine eager compiles nothing; choose another engine.")


def apply(levels: Levels, options: Switch, config: HarnessConfig) -> Levels:
    """Return the levels with fusion at the engine's default."""
    return replace(levels, fusion="default")

"""A hardware technique: the engine's default level of fusion, between "off" and the most that `fusion` takes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.system.errors import UserError

if TYPE_CHECKING:
    from harness.config import HarnessConfig
    from harness.techniques.levels import HasCapabilities, Levels

name = "default_fusion"
before = "fusion"  # which then goes further


@dataclass
class Options:
    """Let the engine fuse as it does by default."""

    enabled: bool = False
    cuda_graph: bool = False  # capture the run as well


def check(options: Options, config: HarnessConfig, engine: HasCapabilities | None) -> None:
    """Raise UserError on an engine that fuses nothing."""
    if engine is not None and not engine.capabilities.fuses:
        raise UserError(f"hw=default_fusion: engine {engine.name} fuses nothing; choose another engine.")


def apply(levels: Levels, options: Options, config: HarnessConfig) -> Levels:
    """Return the levels with fusion at the engine's default."""
    return replace(levels, fusion="default", cuda_graph=options.cuda_graph)

"""identity: nothing; the reference once more, built and loaded separately: one half of the A/A control."""

from __future__ import annotations

from dataclasses import replace

from harness.config import HarnessConfig, Switch
from harness.techniques.levels import HasCapabilities, Levels

name = "identity"
Options = Switch


def check(options: Switch, config: HarnessConfig, engine: HasCapabilities | None) -> None:
    """Accept every engine."""


def apply(levels: Levels, options: Switch, config: HarnessConfig) -> Levels:
    """Return the same levels as another instance, so that the cache does not hand out the reference's artifact."""
    return replace(levels, instance=levels.instance + "hw-identity")

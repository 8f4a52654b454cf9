"""Hardware techniques: each changes how an engine is built or run."""

from __future__ import annotations

from harness.techniques.hw.stack import (
    ALONE,
    ORDER,
    apply_stack,
    base_levels,
    check_network,
    check_stack,
    enabled,
    flat_options,
    on_engine,
    technique,
)

__all__ = [
    "ALONE",
    "ORDER",
    "apply_stack",
    "base_levels",
    "check_network",
    "check_stack",
    "enabled",
    "flat_options",
    "on_engine",
    "technique",
]

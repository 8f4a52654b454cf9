"""Architecture techniques: a model goes in, a changed copy comes out. Importing this imports no torch."""

from __future__ import annotations

from harness.techniques.arch.stack import (
    ORDER,
    apply_stack,
    check_config,
    check_stack,
    enabled,
    flat_options,
    needs_training,
    option_by_answers,
    technique,
)

__all__ = [
    "ORDER",
    "apply_stack",
    "check_config",
    "check_stack",
    "enabled",
    "flat_options",
    "needs_training",
    "option_by_answers",
    "technique",
]

"""No change: the reference once more, built and loaded separately, so that an A/A control can be measured."""

from __future__ import annotations

from torch import nn

from harness.config import Switch
from harness.networks.shapes import copied

name = "identity"
keeps_answers = True  # nothing changes


def check(model: nn.Module, options: Switch) -> None:
    """Accept every model."""


def apply(model: nn.Module, options: Switch) -> nn.Module:
    """Return a copy of `model` with the same weights."""
    return copied(model)

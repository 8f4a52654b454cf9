"""A technique: the network sees the images pooled. torch is imported where it is used: `--help` imports this file."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.system.errors import UserError

if TYPE_CHECKING:
    from torch import nn

name = "half_resolution"


@dataclass
class Options:
    """Show the network images of a smaller size."""

    enabled: bool = False
    factor: int = 2  # by which each side shrinks


def check(model: nn.Module, options: Options) -> None:
    """Raise UserError for a factor that is not a reduction."""
    if options.factor < 2:
        raise UserError(f"arch.half_resolution.factor={options.factor} is not a reduction: it must be 2 or more")


def apply(model: nn.Module, options: Options) -> nn.Module:
    """Return a copy of `model` behind an average pooling of the images."""
    from torch import nn

    changed = nn.Sequential(nn.AvgPool2d(options.factor), copy.deepcopy(model))
    return changed.eval().requires_grad_(False)

"""What is known of a model before it is made, and the list that each family adds its models to on import."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.config import ModelConfig

if TYPE_CHECKING:
    from torch import nn


def _unchanged(key: str) -> str:
    return key


@dataclass(frozen=True)
class ModelSpec:
    """How one model is made. `create` draws its weights from torch's global generator, already seeded."""

    name: str
    create: Callable[[ModelConfig], nn.Module]
    min_image_size: int = 1  # pixels; below this a feature map vanishes
    torchvision_weights: str | None = None  # name of the enum in torchvision.models
    rename_key: Callable[[str], str] = _unchanged  # parameter name in old checkpoints -> name now
    settle: bool = False  # random weights are made fit to be verified: see settle.py


registered: dict[str, ModelSpec] = {}


def register(spec: ModelSpec) -> None:
    """Add a model; raises ValueError if the name is taken (a bug in our code, not a user's mistake)."""
    if spec.name in registered:
        raise ValueError(f"model {spec.name!r} is registered twice")
    registered[spec.name] = spec

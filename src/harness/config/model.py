"""The options of the group `model`."""

from __future__ import annotations

from dataclasses import dataclass

from omegaconf import MISSING

from harness.config.ranges import Ranges, at_least


@dataclass
class ModelConfig:
    """Which network, and where its weights come from."""

    name: str = MISSING  # torchvision's or timm's name, or module:function
    weights: str | None = None  # None: random from `seed`; a path to a state dict; or a torchvision weights name
    seed: int = 0  # of random weights
    image_size: int = 224  # pixels, square
    num_classes: int = 1000  # logits of the last layer


MODEL_RANGES: Ranges = {"seed": at_least(0), "image_size": at_least(32), "num_classes": at_least(2)}

"""The options of the group `model`."""

from __future__ import annotations

from dataclasses import dataclass

from omegaconf import MISSING


@dataclass
class ModelConfig:
    """Which network, and where its weights come from."""

    name: str = MISSING  # torchvision's or timm's name, or module:function
    weights: str | None = None  # None: random from `seed`; a path to a state dict; or a torchvision weights name
    seed: int = 0  # of random weights
    image_size: int = 224  # pixels, square
    num_classes: int = 1000  # logits of the last layer

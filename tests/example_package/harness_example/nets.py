"""A model: a function that returns a network, told the number of classes (and `image_size`, if it asks for it)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def example_net(num_classes: int) -> nn.Module:
    """Return three convolutions and a classifier, for images of any size."""
    from torch import nn

    def layer(inputs: int, outputs: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.ReLU())

    return nn.Sequential(
        layer(3, 16), layer(16, 32), layer(32, 64), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, num_classes)
    )

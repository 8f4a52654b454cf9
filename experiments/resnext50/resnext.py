"""A technique from outside: torchvision's ResNeXt-50 32x4d in place of its ResNet-50, one design decision apart.

Xie et al. 2017, arXiv:1611.05431: 3x3 convolutions in 32 groups, twice as wide, at about the same cost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.system.errors import UserError

if TYPE_CHECKING:
    from torch import nn

name = "resnext"
_BLOCKS = (3, 4, 6, 3)


@dataclass
class Options:
    """ResNeXt-50 32x4d instead of ResNet-50, with new weights."""

    enabled: bool = False
    seed: int = 3


def check(model: nn.Module, options: Options) -> None:
    """Raise UserError for anything but torchvision's ResNet-50."""
    from torchvision.models.resnet import Bottleneck, ResNet

    found = type(model).__name__
    if isinstance(model, ResNet):
        parts = (model.layer1, model.layer2, model.layer3, model.layer4)
        if tuple(map(len, parts)) == _BLOCKS and isinstance(model.layer1[0], Bottleneck) and model.groups == 1:
            return
        found = "another ResNet"
    raise UserError(f"arch=resnext replaces torchvision's ResNet-50, and this is {found}: use model=resnet50")


def apply(model: nn.Module, options: Options) -> nn.Module:
    """Return a ResNeXt-50 32x4d for the same images and classes, its batch norms measured."""
    import torch
    from torchvision.models import resnext50_32x4d

    from harness.networks import image_side, inputs_of
    from harness.networks.inputs import carry_inputs
    from harness.networks.weights import settle

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        changed: nn.Module = resnext50_32x4d(num_classes=model.fc.out_features)
        settle(changed, image_side(model))
    carry_inputs(changed, inputs_of(model))
    return changed.eval().requires_grad_(False)

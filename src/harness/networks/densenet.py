"""DenseNets, as torchvision builds them: the coursework's DenseNet121, and a slim one for quick trials.

Huang, Liu, van der Maaten, Weinberger: Densely Connected Convolutional Networks, CVPR 2017.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from harness.config import ModelConfig
from harness.networks.model_spec import ModelSpec, register

if TYPE_CHECKING:
    from torch import nn

# Five halvings (two in the stem, three transitions) leave one pixel of 29: torchvision states the same minimum.
MIN_IMAGE_SIZE = 29

# Published checkpoints come from a time when module names could hold dots: `denselayer1.norm.1.weight`.
_DOTTED = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\..+)$")


def undotted(key: str) -> str:
    """Return the present name of a parameter in a checkpoint of any age."""
    return _DOTTED.sub(r"\1\2", key)


def _densenet121(cfg: ModelConfig) -> nn.Module:
    from torchvision.models import densenet121

    network: nn.Module = densenet121(weights=None, num_classes=cfg.num_classes)
    return network


def _densenet_tiny(cfg: ModelConfig) -> nn.Module:
    # Same class and same four stages, so every technique applies, and a quartet takes seconds.
    from torchvision.models import DenseNet

    network: nn.Module = DenseNet(
        growth_rate=8, block_config=(2, 2, 2, 2), num_init_features=16, bn_size=2, num_classes=cfg.num_classes
    )
    return network


register(ModelSpec("densenet121", _densenet121, MIN_IMAGE_SIZE, "DenseNet121_Weights", undotted))
register(ModelSpec("densenet_tiny", _densenet_tiny, MIN_IMAGE_SIZE))

"""A DenseNet with a smaller growth rate: every dense layer adds fewer feature maps.

Growth rate k is the width of what each layer adds (Huang et al., Densely Connected Convolutional Networks, CVPR 2017).
The layers of the narrow network see inputs of another make-up, so there is no mapping of the given weights that means
anything: it draws new ones from `options.seed`. Its speed is real, its predictions need training.
"""

from __future__ import annotations

from torch import nn
from torchvision.models import DenseNet

from harness.networks.determinism import seeded
from harness.system.errors import UserError
from harness.techniques.arch.anatomy import densenet_shape, image_size, require_densenet
from harness.techniques.arch.options import ReducedGrowthOptions

name = "reduced_growth"
_ASKED = "arch=reduced_growth changes dense blocks (arch=reduced_depth is its counterpart for residual networks)"


def check(model: nn.Module, options: ReducedGrowthOptions) -> None:
    """Raise UserError unless `model` is a regular DenseNet that grows faster than `options.growth_rate` >= 1."""
    found = densenet_shape(require_densenet(model, _ASKED), name).growth_rate
    if not 1 <= options.growth_rate < found:
        raise UserError(
            f"arch.reduced_growth.growth_rate={options.growth_rate} is no reduction: "
            f"the model has {found}, so it must be from 1 to {found - 1}"
        )


def apply(model: nn.Module, options: ReducedGrowthOptions) -> nn.Module:
    """Return a new DenseNet with `options.growth_rate`, else the shape of `model`, and new weights."""
    shape = densenet_shape(require_densenet(model, _ASKED), name)
    with seeded(options.seed):
        narrow: nn.Module = DenseNet(
            growth_rate=options.growth_rate,
            block_config=shape.block_config,
            num_init_features=shape.num_init_features,
            bn_size=shape.bn_size,
            num_classes=shape.num_classes,
        )
    narrow.image_size = image_size(model)  # type: ignore[assignment]
    return narrow.eval().requires_grad_(False)

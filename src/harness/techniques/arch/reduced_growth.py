"""A DenseNet with a smaller growth rate: every dense layer adds fewer feature maps.

Growth rate k is the width of what each layer adds (Huang et al., Densely Connected Convolutional Networks, CVPR 2017).
The layers of the narrow network see inputs of another make-up, so there is no mapping of the given weights that means
anything: it draws new ones from `options.seed`. Its speed is real, its predictions need training.
"""

from __future__ import annotations

import torch
from torch import nn
from torchvision.models import DenseNet

from harness.networks.determinism import seeded
from harness.networks.inputs import carry_inputs
from harness.system.errors import UserError
from harness.techniques.arch.anatomy import DenseNetShape, densenet_shape, require_densenet, taken_by
from harness.techniques.arch.options import ReducedGrowthOptions

name = "reduced_growth"
_REQUESTED = "arch=reduced_growth changes dense blocks (arch=reduced_depth is its counterpart for residual networks)"


def check(model: nn.Module, options: ReducedGrowthOptions) -> None:
    """Raise UserError unless `model` is a regular DenseNet that grows faster than `options.growth_rate` >= 1."""
    densenet = require_densenet(model, _REQUESTED)
    try:
        shape = densenet_shape(densenet, name)
    except AttributeError as error:  # another classifier, layers of another kind
        raise UserError(f"{_REQUESTED}: {type(model).__name__} is not built as torchvision's: {error}") from error
    found = shape.growth_rate
    if not 1 <= options.growth_rate < found:
        raise UserError(
            f"arch.reduced_growth.growth_rate={options.growth_rate} is not a reduction: "
            f"the model has {found}, so it must be from 1 to {found - 1}"
        )
    _check_torchvisions(densenet, shape)


def apply(model: nn.Module, options: ReducedGrowthOptions) -> nn.Module:
    """Return a new DenseNet with `options.growth_rate`, else the shape of `model`, and new weights."""
    shape = densenet_shape(require_densenet(model, _REQUESTED), name)
    with seeded(options.seed):
        narrow: nn.Module = _densenet(shape, options.growth_rate)
    carry_inputs(narrow, taken_by(model))
    return narrow.eval().requires_grad_(False)


def _densenet(shape: DenseNetShape, growth_rate: int) -> DenseNet:
    return DenseNet(
        growth_rate=growth_rate,
        block_config=shape.block_config,
        num_init_features=shape.num_init_features,
        bn_size=shape.bn_size,
        num_classes=shape.num_classes,
    )


def _check_torchvisions(model: DenseNet, shape: DenseNetShape) -> None:
    """Raise UserError unless torchvision's constructor, given its own growth rate, would build `model` as it is."""
    if type(model) is not DenseNet:
        raise UserError(
            f"{_REQUESTED}: {type(model).__name__} is a custom DenseNet, which torchvision's would not reproduce"
        )
    with torch.device("meta"):
        usual = dict(_densenet(shape, shape.growth_rate).named_modules())
    found = dict(model.named_modules())
    for part_name in [*found, *usual]:
        part, same = found.get(part_name), usual.get(part_name)
        if type(part) is not type(same) or part is None or part.extra_repr() != same.extra_repr():  # type: ignore[union-attr]
            shown = "missing" if part is None else f"{type(part).__name__}({part.extra_repr()})"
            raise UserError(
                f"{_REQUESTED}: its {part_name} is {shown}, unlike torchvision's, and the new network would lack that"
            )

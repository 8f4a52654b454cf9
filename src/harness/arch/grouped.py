"""Grouped 1x1 convolutions in the bottlenecks: each group of outputs sees only its own group of inputs.

Aggregated transformations, as in ResNeXt (Xie et al., Aggregated Residual Transformations, CVPR 2017). No channel
shuffle: the 3x3 convolution that follows is dense and mixes the groups.

The given weights are kept where they still have a place: group g of the outputs keeps the weights from group g of the
inputs (the diagonal blocks), unscaled. Among all grouped convolutions that is the nearest to the dense one in the sum
of squared weights; a rescaling would restore the variance for independent inputs, which feature maps are not.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import nn

from harness.arch.anatomy import dense_layers, require_densenet
from harness.config import GroupedOptions
from harness.errors import UserError

name = "grouped"


def check(model: nn.Module, options: GroupedOptions) -> None:
    """Raise UserError unless `model` is a DenseNet and the groups divide the channels of every bottleneck."""
    bottlenecks = {
        f"{layer_name}.conv1": layer.conv1 for layer_name, layer in dense_layers(require_densenet(model, name)).items()
    }
    common = math.gcd(*(width for conv in bottlenecks.values() for width in (conv.in_channels, conv.out_channels)))
    fitting = ", ".join(str(groups) for groups in range(1, common + 1) if common % groups == 0)
    if options.groups < 1:
        raise UserError(f"arch.grouped.groups={options.groups} is no number of groups: here it may be {fitting}")
    for conv_name, conv in bottlenecks.items():
        if conv.groups != 1:
            raise UserError(f"arch=grouped needs dense bottlenecks: {conv_name} already has {conv.groups} groups")
        if conv.in_channels % options.groups or conv.out_channels % options.groups:
            raise UserError(
                f"arch.grouped.groups={options.groups} does not divide {conv_name}, "
                f"which has {conv.in_channels} channels in and {conv.out_channels} out\n"
                f"Group counts that divide every bottleneck of this network: {fitting}"
            )


def apply(model: nn.Module, options: GroupedOptions) -> nn.Module:
    """Return a copy of `model` whose bottlenecks (`_DenseLayer.conv1`) have `options.groups` groups; 1 changes nothing.

    The layers are chosen by their place, not their shape: the transitions hold 1x1 convolutions too.
    """
    changed = copy.deepcopy(model)
    for layer in dense_layers(require_densenet(changed, name)).values():
        layer.conv1 = _grouped(layer.conv1, options.groups)
    return changed


def _grouped(dense: nn.Conv2d, groups: int) -> nn.Conv2d:
    conv = nn.utils.skip_init(nn.Conv2d, dense.in_channels, dense.out_channels, 1, groups=groups, bias=False)
    # [groups, out/groups, groups, in/groups]: the blocks on the diagonal are the ones that stay.
    blocks = dense.weight.detach().reshape(groups, dense.out_channels // groups, groups, -1)
    diagonal = torch.stack([blocks[group, :, group] for group in range(groups)])
    conv.weight = nn.Parameter(diagonal.reshape(conv.weight.shape).clone(), requires_grad=False)
    return conv.eval()

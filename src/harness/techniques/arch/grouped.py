"""Grouped convolutions: each group of outputs sees only its own group of inputs.

Aggregated transformations, as in ResNeXt (Xie et al., Aggregated Residual Transformations, CVPR 2017). Which ones, by
what the network has: the bottlenecks of a DenseNet; else every dense convolution larger than 1x1 but the stem's (the
3x3 of a ResNet's blocks); else the 1x1 expansions (EfficientNet, MobileNet, whose larger ones are depthwise already),
but those of squeeze-excitation, which see one pixel.
No channel shuffle: the dense layer that follows each of them mixes the groups.

The given weights are kept where they still have a place: group g of the outputs keeps the weights from group g of the
inputs (the diagonal blocks), unscaled. Among all grouped convolutions that is the nearest to the dense one in the sum
of squared weights; a rescaling would restore the variance for independent inputs, which feature maps are not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torchvision.models import DenseNet
from torchvision.ops import SqueezeExcitation

from harness.networks.inputs import inputs_of
from harness.networks.shapes import copied, on_a_copy
from harness.system.errors import UserError
from harness.techniques.arch.anatomy import dense_layers, layers_that_run, output_layer
from harness.techniques.arch.options import GroupedOptions
from harness.techniques.arch.understood import check_rebuildable, check_runs, check_unchanged, replace

name = "grouped"
_IMAGE_CHANNELS = 3  # a stem takes the image itself


def check(model: nn.Module, options: GroupedOptions) -> None:
    """Raise UserError unless `model` has such convolutions and the groups divide the channels of each."""
    chosen = targets(model)
    if not chosen:
        raise UserError(
            f"arch=grouped has nothing to group: {type(model).__name__} has no dense convolution but its stem's"
        )
    check_rebuildable(model, chosen, f"arch={name}")
    common = math.gcd(*(width for conv in chosen.values() for width in (conv.in_channels, conv.out_channels)))
    fitting = ", ".join(str(groups) for groups in range(1, common + 1) if common % groups == 0)
    if options.groups < 1:
        raise UserError(
            f"arch.grouped.groups={options.groups} is not a valid number of groups: here it may be {fitting}"
        )
    for conv_name, conv in chosen.items():
        if conv.groups != 1:
            raise UserError(f"arch=grouped needs dense bottlenecks: {conv_name} already has {conv.groups} groups")
        if conv.in_channels % options.groups or conv.out_channels % options.groups:
            raise UserError(
                f"arch.grouped.groups={options.groups} does not divide {conv_name}, "
                f"which has {conv.in_channels} channels in and {conv.out_channels} out\n"
                f"Group counts that divide every convolution it would group here: {fitting}"
            )
    check_unchanged(model, lambda whole: _replaced(whole, 1), f"arch={name}")
    does_more = f"arch={name}: {type(model).__name__} does more with its convolutions than to call them"
    check_runs(model, lambda: apply(model, options), does_more)


def apply(model: nn.Module, options: GroupedOptions) -> nn.Module:
    """Return a copy of `model` whose `targets` have `options.groups` groups; 1 changes nothing."""
    changed = copied(model)
    _replaced(changed, options.groups)
    return changed


def targets(model: nn.Module) -> dict[str, nn.Conv2d]:
    """Return the convolutions to group by name; a DenseNet's by their place, because its transitions are 1x1 too."""
    if isinstance(model, DenseNet):
        return {f"{layer_name}.conv1": layer.conv1 for layer_name, layer in dense_layers(model).items()}
    squeezed = tuple(f"{name}." for name, part in model.named_modules() if isinstance(part, SqueezeExcitation))
    gates, last = _gates(model), output_layer(model)
    dense = {
        conv_name: conv
        for conv_name, conv in layers_that_run(model).items()
        if isinstance(conv, nn.Conv2d) and conv.groups == 1 and conv.in_channels > _IMAGE_CHANNELS
        if not conv_name.startswith(squeezed) and conv_name not in gates and (last is None or conv_name != last[0])
    }
    spatial = {conv_name: conv for conv_name, conv in dense.items() if conv.kernel_size != (1, 1)}
    return spatial or {name: conv for name, conv in dense.items() if conv.out_channels > conv.in_channels}


def _gates(model: nn.Module) -> set[str]:
    """Return the convolutions of squeeze-excitation, anybody's (Hu et al., CVPR 2018), by name.

    These see one pixel, pooled by a module around them that takes and gives a larger map of one shape. What is such a
    layer in one place is one in all modules of that class: on small images the last maps have one pixel themselves.
    """
    inputs = inputs_of(model)
    if inputs is None:
        return set()

    def seen(network: nn.Module, values: Sequence[torch.Tensor]) -> dict[str, tuple[torch.Size, torch.Size]]:
        found: dict[str, tuple[torch.Size, torch.Size]] = {}

        def note(name: str, given: tuple[object, ...], output: object) -> None:
            first = given[0] if given else None
            if isinstance(first, torch.Tensor) and isinstance(output, torch.Tensor):
                found[name] = (first.shape, output.shape)

        for name, part in network.named_modules():
            part.register_forward_hook(lambda _part, given, output, name=name: note(name, given, output))
        inputs.call(network, values)
        return found

    shapes = on_a_copy(model, inputs, seen)
    convs = [name for name, part in model.named_modules() if isinstance(part, nn.Conv2d)]
    within = {conv: _pooling(conv, shapes) for conv in convs if conv in shapes}
    known = {
        (type(model.get_submodule(owner)), conv[len(owner) :]) for conv, owner in within.items() if owner is not None
    }
    return {
        conv
        for conv in convs
        if any((type(model.get_submodule(owner)), conv[len(owner) :]) in known for owner in _around(conv))
    }


def _around(name: str) -> list[str]:
    """Return the names of the modules that hold one, the nearest first, without the network itself."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(len(parts) - 1, 0, -1)]


def _pooling(conv: str, shapes: dict[str, tuple[torch.Size, torch.Size]]) -> str | None:
    """Return the module that pools a map to the one pixel which `conv` sees, if it gives that map's shape again."""
    if shapes[conv][0][2:].numel() > 1:
        return None
    larger = (name for name in _around(conv) if name in shapes and shapes[name][0][2:].numel() > 1)
    owner = next(larger, None)
    return owner if owner is not None and shapes[owner][0] == shapes[owner][1] else None


def _replaced(network: nn.Module, groups: int) -> list[nn.Module]:
    """Group the targets of `network` in place; return the convolutions that were there."""
    chosen = list(targets(network).values())
    for conv in chosen:
        replace(network, conv, _grouped(conv, groups))
    return list(chosen)


def _grouped(dense: nn.Conv2d, groups: int) -> nn.Conv2d:
    conv: nn.Conv2d = nn.utils.skip_init(
        nn.Conv2d,
        dense.in_channels,
        dense.out_channels,
        dense.kernel_size,
        stride=dense.stride,
        padding=dense.padding,
        dilation=dense.dilation,
        groups=groups,
        bias=dense.bias is not None,
        padding_mode=dense.padding_mode,
    )
    # [groups, out/groups, groups, in/groups * kernel]: the blocks on the diagonal are the ones that stay.
    blocks = dense.weight.detach().reshape(groups, dense.out_channels // groups, groups, -1)
    diagonal = torch.stack([blocks[group, :, group] for group in range(groups)])
    conv.weight = nn.Parameter(diagonal.reshape(conv.weight.shape).clone(), requires_grad=False)
    if dense.bias is not None:
        conv.bias = nn.Parameter(dense.bias.detach().clone(), requires_grad=False)
    return conv.eval()

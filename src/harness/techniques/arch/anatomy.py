"""Where the parts of a network are that techniques work on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torchvision.models import DenseNet

from harness.networks.inputs import Inputs, image_inputs, inputs_of
from harness.networks.shapes import on_a_copy, output_shapes
from harness.system.errors import UserError
from harness.system.library_internals import densenet_parts

DEFAULT_IMAGE_SIZE = 224


@dataclass(frozen=True)
class DenseNetShape:
    """The constructor arguments of a regular DenseNet-BC (Huang et al., 2017)."""

    growth_rate: int
    block_config: tuple[int, ...]
    num_init_features: int
    bn_size: int
    num_classes: int


def taken_by(model: nn.Module) -> Inputs:
    """Return the inputs that `model` was built for; images of 224 pixels where it doesn't say."""
    return inputs_of(model) or image_inputs(DEFAULT_IMAGE_SIZE)


def image_size(model: nn.Module) -> int:
    """Return the side (pixels) of the images that `model` was built for; 224 where it doesn't say, or takes others."""
    return taken_by(model).image_side or DEFAULT_IMAGE_SIZE


def require_images(model: nn.Module, requested: str) -> None:
    """Raise UserError, beginning with `requested`, for a network that takes anything but square images."""
    found = taken_by(model)
    if found.image_side is None:
        raise UserError(f"{requested}: it needs a network on square images, and {type(model).__name__} takes {found}")


def require_densenet(model: nn.Module, requested: str) -> DenseNet:
    """Return `model` as a DenseNet; raises UserError if it is not one. `requested` says what needs one, and why."""
    if not isinstance(model, DenseNet):
        raise UserError(f"{requested}: it needs a DenseNet, found {type(model).__name__}")
    return model


def dense_blocks(model: DenseNet) -> dict[str, nn.ModuleDict]:
    """Return the dense blocks by name within `features`, first to last."""
    dense_block, _, _ = densenet_parts()
    return {name: part for name, part in model.features.named_children() if isinstance(part, dense_block)}


def dense_layers(model: DenseNet) -> dict[str, Any]:
    """Return the dense layers by full name, first to last: DenseNet121 has 58."""
    _, dense_layer, _ = densenet_parts()
    return {name: part for name, part in model.named_modules() if isinstance(part, dense_layer)}


def classifier(model: nn.Module) -> tuple[str, nn.Linear] | None:
    """Return name and module of the last fully connected layer, or None if there is none."""
    linears = [(name, part) for name, part in model.named_modules() if isinstance(part, nn.Linear)]
    return linears[-1] if linears else None


def layers_that_run(model: nn.Module) -> dict[str, nn.Conv2d | nn.Linear]:
    """Return the convolutions and linear layers by name, in the order in which they are called.

    A layer whose weight is read past it (the projections within `nn.MultiheadAttention`) is never called, so replacing
    it would change nothing or break; nor is the auxiliary classifier of a network in inference. A bare module that does
    not carry what it takes can't be called: of such a one, all of them in the order of their definition.
    """
    if inputs_of(model) is None:
        return {name: part for name, part in model.named_modules() if isinstance(part, nn.Conv2d | nn.Linear)}

    inputs = taken_by(model)

    def called(network: nn.Module, values: Sequence[torch.Tensor]) -> list[str]:
        order: dict[str, None] = {}
        for name, part in network.named_modules():
            if isinstance(part, nn.Conv2d | nn.Linear):
                part.register_forward_pre_hook(lambda _part, _inputs, name=name: order.setdefault(name))
        inputs.call(network, values)
        return list(order)

    names = on_a_copy(model, inputs, called)
    return {name: part for name in names if isinstance(part := model.get_submodule(name), nn.Conv2d | nn.Linear)}


def output_layer(model: nn.Module) -> tuple[str, nn.Module] | None:
    """Return name and module of the layer that makes the logits, the last one called, or None if nothing is."""
    running = list(layers_that_run(model).items())
    return running[-1] if running else None


def num_classes(model: nn.Module) -> int:
    """Return how many logits `model` gives."""
    return output_shapes(model, taken_by(model))[0][0]


def densenet_shape(model: DenseNet, technique: str) -> DenseNetShape:
    """Read the constructor arguments off the layers; raises UserError where widths are irregular (pruned)."""
    layers = list(dense_layers(model).values())
    growth_rate = layers[0].conv2.out_channels
    bottleneck = layers[0].conv1.out_channels
    regular = all(
        layer.conv2.out_channels == growth_rate and layer.conv1.out_channels == bottleneck for layer in layers
    )
    if not regular or bottleneck % growth_rate:
        raise UserError(f"arch={technique} needs a regular DenseNet: the widths found differ from layer to layer")
    return DenseNetShape(
        growth_rate=growth_rate,
        block_config=tuple(len(block) for block in dense_blocks(model).values()),
        num_init_features=model.features.conv0.out_channels,
        bn_size=bottleneck // growth_rate,
        num_classes=model.classifier.out_features,
    )

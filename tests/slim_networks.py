"""Slim networks of torchvision's classes, for `model=slim_networks:vit`: seconds where the named ones take minutes."""

import torch
from torch import nn
from torchvision.models import ConvNeXt, MobileNetV3, ResNet, VisionTransformer
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.mobilenetv3 import InvertedResidualConfig
from torchvision.models.resnet import Bottleneck


def vit(num_classes: int, image_size: int) -> nn.Module:
    network = VisionTransformer(image_size, 16, 4, 4, 48, 96, num_classes=num_classes)
    nn.init.normal_(network.heads.head.weight, std=0.1)  # torchvision's are zeros
    return network


def resnet(num_classes: int) -> nn.Module:
    return ResNet(Bottleneck, [2, 2, 1, 1], num_classes=num_classes, width_per_group=16)


def convnext(num_classes: int) -> nn.Module:
    stages = [CNBlockConfig(16, 32, 2), CNBlockConfig(32, 48, 2), CNBlockConfig(48, None, 1)]
    return ConvNeXt(stages, layer_scale=1.0, num_classes=num_classes)


def mobilenet(num_classes: int) -> nn.Module:
    def block(inputs: int, wide: int, outputs: int, stride: int) -> InvertedResidualConfig:
        return InvertedResidualConfig(inputs, 3, wide, outputs, True, "HS", stride, 1, 1.0)

    blocks = [block(16, 32, 16, 2), block(16, 48, 24, 2), block(24, 64, 24, 1), block(24, 64, 24, 1)]
    network = MobileNetV3(blocks, 64, num_classes=num_classes)
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):  # as if it had seen data
            part.running_var.fill_(0.3)
    return network


def gives_pairs(num_classes: int) -> nn.Module:
    class Pairs(nn.Module):
        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            pooled = images.mean((2, 3))
            return pooled, pooled

    return Pairs()

"""Layers, blocks and families as other people write them, one situation each: `model=foreign_layers:tied_weights`."""

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import DenseNet, ResNet, VisionTransformer
from torchvision.models.resnet import BasicBlock

from foreign_networks import Small

# layers that are more than their class: techniques rebuild layers


class Standardised(nn.Conv2d):
    """Weight standardisation (timm's StdConv2d, BiT): the weight is normalised on every call."""

    def forward(self, x):
        weight = self.weight
        weight = (weight - weight.mean((1, 2, 3), keepdim=True)) / (weight.std((1, 2, 3), keepdim=True) + 1e-5)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class PaddedSame(nn.Conv2d):
    """SAME padding as TensorFlow has it: more on one side than on the other."""

    def forward(self, x):
        return F.conv2d(F.pad(x, (0, 1, 0, 1)), self.weight, self.bias, self.stride)


class Named(nn.Conv2d):
    """Another name for the same thing, as many packages have one."""

    def forward(self, x):
        return super().forward(x)


class WithGain(nn.Conv2d):
    """A parameter beside weight and bias, which has no effect yet."""

    def __init__(self, *sizes: int, **options: int) -> None:
        super().__init__(*sizes, **options)
        self.gain = nn.Parameter(torch.ones(1))


class Doubling(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


def _around(conv: nn.Module, num_classes: int) -> nn.Module:
    return Small(num_classes, nn.Sequential(conv, nn.ReLU(), nn.Conv2d(32, 32, 1)), 16, 32)


def standardised(num_classes):
    return _around(Standardised(16, 32, 3, 1, 1), num_classes)


def standardised_1x1(num_classes):
    return _around(Standardised(16, 32, 1), num_classes)


def padded_same(num_classes):
    return _around(PaddedSame(16, 32, 3, 2), num_classes)


def named(num_classes):
    return _around(Named(16, 32, 3, 1, 1), num_classes)


def with_gain(num_classes):
    return _around(WithGain(16, 32, 3, padding=1), num_classes)


def doubling(num_classes):
    network = Small(num_classes)
    network.fc = Doubling(16, num_classes)
    return network


def weight_norm(num_classes):
    return _around(nn.utils.weight_norm(nn.Conv2d(16, 32, 3, 1, 1)), num_classes)


def parametrized(num_classes):
    return _around(nn.utils.parametrizations.weight_norm(nn.Conv2d(16, 32, 3, 1, 1)), num_classes)


def hooked(num_classes):
    conv = nn.Conv2d(16, 32, 3, 1, 1)
    conv.register_forward_hook(_double)
    return _around(conv, num_classes)


def _double(_conv, _inputs, output):
    return 2 * output


def own_forward(num_classes):
    conv = nn.Conv2d(16, 32, 3, 1, 1)
    conv.forward = lambda x: F.conv2d(x, conv.weight.flip(0), conv.bias, padding=1)
    return _around(conv, num_classes)


def registered_thrice(num_classes):
    """One convolution at three places, under a name each."""
    conv = nn.Conv2d(32, 32, 3, 1, 1)
    return Small(num_classes, nn.Sequential(conv, nn.ReLU(), conv, nn.ReLU(), conv), 32)


def registered_thrice_1x1(num_classes):
    conv = nn.Conv2d(32, 32, 1)
    return Small(num_classes, nn.Sequential(conv, nn.ReLU(), conv, nn.ReLU(), conv), 32)


def tied_weights(num_classes):
    """Two convolutions, one parameter."""
    first, second = nn.Conv2d(32, 32, 3, 1, 1), nn.Conv2d(32, 32, 3, 1, 1)
    second.weight = first.weight
    return Small(num_classes, nn.Sequential(first, nn.ReLU(), second), 32)


class Listed(Small):
    """Calls its convolution through a plain list, past its name."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes, nn.Conv2d(16, 16, 3, 1, 1))
        self.again = [self.body]

    def forward(self, x):
        y = self.body(self.stem(x))
        for conv in self.again:
            y = conv(F.relu(y))
        return self.fc(y.mean((2, 3)))


def listed(num_classes):
    return Listed(num_classes)


class Looking(Small):
    """Reads the weight of a layer that it also calls."""

    def forward(self, x):
        y = self.body(self.stem(x))
        return self.fc(y.mean((2, 3)).to(self.fc.weight.dtype)) + self.body.weight.sum((1, 2, 3)).mean()


def looking(num_classes):
    return Looking(num_classes, nn.Conv2d(16, 16, 3, 1, 1))


class Encoded(nn.Module):
    """PyTorch's own encoder layers over patches of 16 pixels; in inference they read their layers' weights."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 32, 16, 16)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), 2)
        self.fc = nn.Linear(32, num_classes)

    def forward(self, x):
        return self.fc(self.encoder(self.patches(x).flatten(2).transpose(1, 2)).mean(1))


def encoded(num_classes):
    return Encoded(num_classes)


# blocks in a row


class Plain(nn.Module):
    """A block of a VGG: nothing passes it by."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)

    def forward(self, x):
        return F.relu(self.norm(self.conv(x)))


class Residual(Plain):
    def forward(self, x):
        return x + super().forward(x)


class Gate(Plain):
    """Multiplies what passes it by."""

    def forward(self, x):
        return x * torch.sigmoid(self.conv(x))


class Summed(nn.Sequential):
    """A sequence with a way of its own: the sum of what its blocks give."""

    def forward(self, x):
        return sum(block(x) for block in self)


def plain_blocks(num_classes):
    return Small(num_classes, nn.Sequential(*(Plain(16) for _ in range(4))))


def residual_blocks(num_classes):
    return Small(num_classes, nn.Sequential(*(Residual(16) for _ in range(4))))


def gates(num_classes):
    return Small(num_classes, nn.Sequential(*(Gate(16) for _ in range(4))))


def summed_blocks(num_classes):
    return Small(num_classes, Summed(*(Residual(16) for _ in range(4))))


class Third(Small):
    """Asks for its third block by number."""

    def forward(self, x):
        y = self.body(self.stem(x))
        return self.fc(self.body[3](y).mean((2, 3)))


def third_block(num_classes):
    return Third(num_classes, nn.Sequential(*(Residual(16) for _ in range(4))))


# subclasses of torchvision's families


class Flipped(ResNet):
    def forward(self, x):
        return super().forward(x.flip(-1)) + super().forward(x)


def resnet_subclass(num_classes):
    return Flipped(BasicBlock, [1, 1, 1, 1], num_classes=num_classes)


class Bypassed(VisionTransformer):
    def forward(self, x):
        return super().forward(x) * 2


def vit_subclass(num_classes, image_size):
    return Bypassed(image_size, 16, 2, 4, 48, 96, num_classes=num_classes)


def densenet_with_another_stem(num_classes):
    network = DenseNet(8, (2, 2, 2, 2), 16, 2, num_classes=num_classes)
    network.features.conv0 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
    return network


def densenet_with_another_classifier(num_classes):
    network = DenseNet(8, (2, 2, 2, 2), 16, 2, num_classes=num_classes)
    network.classifier = nn.Sequential(nn.Dropout(), nn.Linear(network.classifier.in_features, num_classes))
    return network

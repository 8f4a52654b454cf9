"""Networks as other people write them, one situation each, from public bug reports: `model=foreign_networks:tied`."""

from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import DenseNet, ResNet, VisionTransformer
from torchvision.models.resnet import BasicBlock


def _stem(width: int = 16) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())


class Small(nn.Module):
    """A stem, a body that may be anything, and a classifier."""

    def __init__(
        self, num_classes: int, body: nn.Module | None = None, width: int = 16, out: int | None = None
    ) -> None:
        super().__init__()
        self.stem, self.body = _stem(width), nn.Identity() if body is None else body
        self.fc = nn.Linear(out or width, num_classes)

    def forward(self, x):
        return self.fc(self.body(self.stem(x)).mean((2, 3)))


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


# attributes of their own


class Sized(Small):
    """Works at a resolution of its own, whatever the image's."""

    image_size = 128

    def forward(self, x):
        return super().forward(F.interpolate(x, size=(self.image_size, self.image_size), mode="bilinear"))


def sized(num_classes):
    return Sized(num_classes, nn.Conv2d(16, 16, 3, 1, 1))


class Paired(Small):
    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.image_size = (64, 64)

    def forward(self, x):
        torch._assert(x.shape[-2] == self.image_size[0], "height")
        return super().forward(x)


def paired(num_classes):
    return Paired(num_classes)


class ReadOnly(Small):
    @property
    def image_size(self):
        return 64


def read_only(num_classes):
    return ReadOnly(num_classes)


class Silent(Small):
    """Its `train` forgets to return the network, as many that freeze a part do."""

    def train(self, mode=True):
        super().train(mode)


def silent_train(num_classes):
    return Silent(num_classes)


class Extra(Small):
    """State that is no tensor."""

    def get_extra_state(self):
        return {"version": 3}

    def set_extra_state(self, state):
        pass


def extra_state(num_classes):
    return Extra(num_classes)


# what runs in PyTorch, and not on tensors without data


class Coordinates(Small):
    """Coordinates made in forward without a device (CoordConv)."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes, nn.Conv2d(17, 16, 3, 1, 1))

    def forward(self, x):
        y = self.stem(x)
        column = torch.linspace(-1, 1, y.shape[-1]).expand(y.shape[0], 1, *y.shape[-2:])
        return self.fc(self.body(torch.cat([y, column], 1)).mean((2, 3)))


def coordinates(num_classes):
    return Coordinates(num_classes)


class Normalising(Small):
    """Mean and deviation as plain attributes."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes, nn.Conv2d(16, 16, 3, 1, 1))
        self.mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)

    def forward(self, x):
        return super().forward(x - self.mean)


def normalising(num_classes):
    return Normalising(num_classes)


class Branching(Small):
    """The way depends on the values."""

    def forward(self, x):
        y = self.stem(x)
        return self.fc((self.body(y) if y.mean() > 0.2 else y).mean((2, 3)))


def branching(num_classes):
    return Branching(num_classes, nn.Conv2d(16, 16, 3, 1, 1))


class Cached(Small):
    """Keeps a grid for each size in a global, whoever comes first."""

    grids: ClassVar[dict[int, torch.Tensor]] = {}

    def forward(self, x):
        grid = self.grids.setdefault(x.shape[-1], torch.linspace(0, 1, x.shape[-1], device=x.device))
        return super().forward(x * grid)


def cached(num_classes):
    return Cached(num_classes, nn.Conv2d(16, 16, 3, 1, 1))


def lazy(num_classes):
    return nn.Sequential(
        nn.LazyConv2d(16, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LazyLinear(num_classes)
    )


# what can't be compared with anything


class Answer(Small):
    """Gives `of(logits)`."""

    def __init__(self, num_classes: int, of) -> None:
        super().__init__(num_classes)
        self.of = of

    def forward(self, x):
        return self.of(super().forward(x))


def a_dict(num_classes):
    return Answer(num_classes, lambda logits: {"logits": logits})


def a_list(num_classes):
    return Answer(num_classes, lambda logits: [logits])


def nothing(num_classes):
    return Answer(num_classes, lambda logits: None)


def whole_numbers(num_classes):
    return Answer(num_classes, lambda logits: logits.long())


def half(num_classes):
    return Answer(num_classes, lambda logits: logits).half()


def double(num_classes):
    return Small(num_classes).double()


class Autocast(Small):
    def forward(self, x):
        with torch.autocast("cpu", torch.bfloat16):
            return super().forward(x).float()


def autocast(num_classes):
    return Autocast(num_classes)


def dropping(num_classes):
    return Answer(num_classes, lambda logits: F.dropout(logits, 0.5))


class Counting(Small):
    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return super().forward(x) * self.calls


def counting(num_classes):
    return Counting(num_classes)


def infinite(num_classes):
    return Answer(num_classes, lambda logits: logits / 0)


def without_data(num_classes):
    with torch.device("meta"):
        return Small(num_classes)


def scripted(num_classes):
    return torch.jit.script(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, num_classes)))


def compiled(num_classes):
    return torch.compile(Small(num_classes))


def compiled_part(num_classes):
    network = Small(num_classes)
    network.stem.compile()
    return network


def parallel(num_classes):
    return nn.DataParallel(Small(num_classes))


def one_at_a_time(num_classes):
    return nn.Sequential(
        _stem(), nn.AdaptiveAvgPool2d(1), nn.Unflatten(0, (1, 1)), nn.Flatten(), nn.Linear(16, num_classes)
    )


def failing(num_classes):
    return Answer(num_classes, lambda logits: logits.no_such_thing)

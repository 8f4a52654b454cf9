"""Networks as other people write them, one situation each, from public bug reports: `model=foreign_networks:tied`."""

from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional as F


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


def weight_norm(num_classes):
    return Small(num_classes, nn.utils.weight_norm(nn.Conv2d(16, 32, 3, 1, 1)), out=32)


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


# everyday code that an exporter or a converter has to follow


class Masked(Small):
    """A mask as numbers: a cast that stays in the graph."""

    def forward(self, x):
        y = self.stem(x)
        mask = (y > 0.1).float()
        return self.fc((y * mask).sum((2, 3)) / mask.sum((2, 3)).clamp(min=1.0))


def masked(num_classes):
    return Masked(num_classes)


class Enlarging(Small):
    """A resize, which the converter leaves in fp32, of a mask."""

    def forward(self, x):
        y = self.stem(x)
        mask = F.interpolate((y.mean(1, keepdim=True) > 0).float(), scale_factor=2, mode="nearest")
        return self.fc((y * F.max_pool2d(mask, 2)).mean((2, 3)))


def enlarging(num_classes):
    return Enlarging(num_classes)


class Eye(Small):
    """A matrix made in forward."""

    def forward(self, x):
        y = self.stem(x).mean((2, 3))
        return self.fc(y @ torch.eye(y.shape[1]) + torch.arange(y.shape[1]).float())


def eye(num_classes):
    return Eye(num_classes)

"""Small networks, one situation each."""

import torch
from torch import nn
from torch.nn import functional as F


def _stem(c=16):
    return nn.Sequential(nn.Conv2d(3, c, 3, 2, 1, bias=False), nn.BatchNorm2d(c), nn.ReLU())


class Up(nn.Module):  # Resize, 2x and to a size
    def __init__(self, num_classes):
        super().__init__()
        self.a, self.b, self.fc = _stem(), nn.Conv2d(16, 16, 3, 2, 1), nn.Linear(16, num_classes)

    def forward(self, x):
        a = self.a(x)
        b = F.interpolate(self.b(a), scale_factor=2, mode="bilinear", align_corners=False)
        return self.fc((a + b).mean((2, 3)))


def up(num_classes):
    return Up(num_classes)










class Mask(nn.Module):  # bool mask -> float, argmax -> float: casts that stay in the graph
    def __init__(self, num_classes):
        super().__init__()
        self.a, self.fc = _stem(), nn.Linear(16, num_classes)

    def forward(self, x):
        y = self.a(x)
        m = (y > 0.1).float()
        y = (y * m).sum((2, 3)) / m.sum((2, 3)).clamp(min=1.0)
        return self.fc(y)


def mask(num_classes):
    return Mask(num_classes)


class Pos(nn.Module):  # coordinates made in forward without a device, as CoordConv does
    def __init__(self, num_classes):
        super().__init__()
        self.a, self.c, self.fc = _stem(), nn.Conv2d(18, 16, 1), nn.Linear(16, num_classes)

    def forward(self, x):
        y = self.a(x)
        h, w = y.shape[-2:]
        gy, gx = torch.meshgrid(torch.linspace(-1, 1, h), torch.linspace(-1, 1, w), indexing="ij")
        g = torch.stack([gy, gx])[None].expand(y.shape[0], -1, -1, -1)
        return self.fc(self.c(torch.cat([y, g], 1)).mean((2, 3)))


def pos(num_classes):
    return Pos(num_classes)


class PlainTensor(nn.Module):  # mean and std as plain attributes
    def __init__(self, num_classes):
        super().__init__()
        self.mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
        self.a, self.fc = _stem(), nn.Linear(16, num_classes)

    def forward(self, x):
        return self.fc(self.a(x - self.mean).mean((2, 3)))


def plain(num_classes):
    return PlainTensor(num_classes)


class WN(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.c = nn.utils.weight_norm(nn.Conv2d(3, 16, 3, 2, 1))
        self.d = nn.Conv2d(16, 32, 3, 2, 1)
        self.fc = nn.Linear(32, num_classes)

    def forward(self, x):
        return self.fc(F.relu(self.d(F.relu(self.c(x)))).mean((2, 3)))


def wn(num_classes):
    return WN(num_classes)










class DictOut(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.a, self.fc = _stem(), nn.Linear(16, num_classes)

    def forward(self, x):
        return {"logits": self.fc(self.a(x).mean((2, 3)))}


def dictout(num_classes):
    return DictOut(num_classes)


class ListOut(DictOut):
    def forward(self, x):
        return [self.fc(self.a(x).mean((2, 3)))]


def listout(num_classes):
    return ListOut(num_classes)






class Lazy(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.c, self.fc = nn.LazyConv2d(16, 3, 2, 1), nn.LazyLinear(num_classes)

    def forward(self, x):
        return self.fc(F.relu(self.c(x)).mean((2, 3)))


def lazy(num_classes):
    return Lazy(num_classes)


class Half(nn.Module):  # a checkpoint kept in half precision
    def __init__(self, num_classes):
        super().__init__()
        self.a, self.fc = _stem(), nn.Linear(16, num_classes)

    def forward(self, x):
        return self.fc(self.a(x.to(self.fc.weight.dtype)).mean((2, 3)))


def half(num_classes):
    return Half(num_classes).half()






class Odd(nn.Module):  # adaptive pooling to a size that divides nothing
    def __init__(self, num_classes):
        super().__init__()
        self.a, self.fc = _stem(), nn.Linear(16 * 49, num_classes)

    def forward(self, x):
        return self.fc(F.adaptive_avg_pool2d(self.a(x), 7).flatten(1))


def odd(num_classes):
    return Odd(num_classes)


class Fft(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.a, self.fc = _stem(), nn.Linear(16, num_classes)

    def forward(self, x):
        y = self.a(x)
        y = torch.fft.irfft2(torch.fft.rfft2(y), s=y.shape[-2:])
        return self.fc(y.mean((2, 3)))


def fft(num_classes):
    return Fft(num_classes)


class Fixed(nn.Module):  # a batch of one is written into the network
    def __init__(self, num_classes):
        super().__init__()
        self.a, self.fc = _stem(), nn.Linear(16, num_classes)

    def forward(self, x):
        return self.fc(self.a(x).mean((2, 3)).view(1, 16))


def fixed(num_classes):
    return Fixed(num_classes)


class Shared(nn.Module):  # one layer used twice, under two names
    def __init__(self, num_classes):
        super().__init__()
        self.a = _stem(32)
        conv = nn.Conv2d(32, 32, 3, 1, 1)
        self.body = nn.Sequential(conv, nn.ReLU(), conv, nn.ReLU(), conv)
        self.fc = nn.Linear(32, num_classes)

    def forward(self, x):
        return self.fc(self.body(self.a(x)).mean((2, 3)))


def shared(num_classes):
    return Shared(num_classes)










class Chunk(nn.Module):  # C2f of YOLOv8: chunk and concat
    def __init__(self, num_classes):
        super().__init__()
        self.a, self.b, self.c, self.d = (
            _stem(32),
            nn.Conv2d(32, 64, 1),
            nn.Conv2d(32, 32, 3, 1, 1),
            nn.Conv2d(96, 32, 1),
        )
        self.fc = nn.Linear(32, num_classes)

    def forward(self, x):
        y = list(self.b(self.a(x)).chunk(2, 1))
        y.append(self.c(y[-1]))
        return self.fc(self.d(torch.cat(y, 1)).mean((2, 3)))


def chunk(num_classes):
    return Chunk(num_classes)






class Std(nn.Conv2d):  # weight standardisation: a convolution of its own
    def forward(self, x):
        w = self.weight
        w = (w - w.mean((1, 2, 3), keepdim=True)) / (w.std((1, 2, 3), keepdim=True) + 1e-5)
        return F.conv2d(x, w, self.bias, self.stride, self.padding, self.dilation, self.groups)


class StdNet(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.a = _stem(32)
        self.b, self.g, self.c = Std(32, 64, 3, 1, 1), nn.GroupNorm(8, 64), Std(64, 64, 1)
        self.fc = nn.Linear(64, num_classes)

    def forward(self, x):
        return self.fc(self.c(F.relu(self.g(self.b(self.a(x))))).mean((2, 3)))


def std(num_classes):
    return StdNet(num_classes)






class Drop(nn.Module):  # functional dropout that forgets the mode
    def __init__(self, num_classes):
        super().__init__()
        self.a, self.fc = _stem(), nn.Linear(16, num_classes)

    def forward(self, x):
        return self.fc(F.dropout(self.a(x).mean((2, 3)), 0.5))


def drop(num_classes):
    return Drop(num_classes)


class Big(nn.Module):  # activations beyond 65504, harmless in fp32
    def __init__(self, num_classes):
        super().__init__()
        self.a, self.fc = _stem(), nn.Linear(16, num_classes)

    def forward(self, x):
        y = self.a(x) * 1e6
        return self.fc((y / 1e6).mean((2, 3)))


def big(num_classes):
    return Big(num_classes)


class Extra(nn.Module):  # state that is no tensor
    def __init__(self, num_classes):
        super().__init__()
        self.a, self.fc = _stem(), nn.Linear(16, num_classes)

    def get_extra_state(self):
        return {"version": 3}

    def set_extra_state(self, state):
        pass

    def forward(self, x):
        return self.fc(self.a(x).mean((2, 3)))


def extra(num_classes):
    return Extra(num_classes)






class Prop(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.a, self.fc = _stem(), nn.Linear(16, num_classes)

    @property
    def image_size(self):
        return 64

    def forward(self, x):
        return self.fc(self.a(x).mean((2, 3)))


def prop(num_classes):
    return Prop(num_classes)






def scripted(num_classes):
    return torch.jit.script(Mask(num_classes))


def compiled(num_classes):
    return torch.compile(Mask(num_classes))


def dp(num_classes):
    return nn.DataParallel(Mask(num_classes))









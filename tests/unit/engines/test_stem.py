"""The rearranged stem computes what DenseNet's stem computes, and other stems are left alone."""

from __future__ import annotations

import copy

import pytest
import torch
from test_dense_blocks import dense_net
from torch import nn

from harness.engines.inductor.dense_blocks import STEM, PooledShift, UnshuffledConv, fuse_stem


def stem_of(features: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Run the four parts of a stem."""
    for name in STEM:
        x = getattr(features, name)(x)
    return x


@pytest.mark.parametrize(("height", "width"), [(32, 32), (33, 30), (30, 37)])
def test_the_rearranged_stem_computes_what_the_stem_computes(height, width):
    plain = dense_net().features
    plain.norm0.weight.data[::2] *= -1  # a maximum doesn't commute with these: the scale must be in the weights
    fused = copy.deepcopy(plain)
    assert fuse_stem(fused)
    assert isinstance(fused.conv0, UnshuffledConv) and isinstance(fused.pool0, PooledShift)
    x = torch.randn(2, 3, height, width)
    torch.testing.assert_close(stem_of(fused, x), stem_of(plain, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        {"conv0": nn.Conv2d(3, 24, 3, stride=2, padding=1, bias=False)},
        {"conv0": nn.Conv2d(3, 24, 7, stride=2, padding=3, bias=True)},
        {"pool0": nn.MaxPool2d(2)},
        {"norm0": nn.Identity()},
    ],
)
def test_another_stem_is_left_alone(change):
    features = dense_net().features
    for name, part in change.items():
        setattr(features, name, part)
    before = dict(features.named_children())
    assert not fuse_stem(features)
    assert dict(features.named_children()) == before

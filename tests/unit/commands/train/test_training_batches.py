"""Batches: the inputs that measurements get; shuffled by seed and epoch; moved without losing what they show."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from harness.commands.train import training_batches as room
from harness.commands.train.training_batches import Batches, moved, steps_of
from harness.config import DataConfig, ModelConfig
from harness.networks.data.labelled import labelled


@pytest.fixture(scope="module")
def test_images(cache):
    model = ModelConfig(name="densenet_tiny", image_size=32, num_classes=10)
    return labelled(model, DataConfig(name="digits"), cache).test


def generator(seed=0):
    return np.random.Generator(np.random.Philox(seed))


def test_training_and_measuring_see_the_same_inputs(test_images):
    places = np.array([3, 300, 7])
    images, labels = Batches(test_images, "cpu").take(places)
    assert np.abs(images.numpy() - test_images.batch(places)).max() < 1e-6
    assert labels.tolist() == test_images.labels()[places].tolist()


def test_a_part_that_is_too_large_is_mapped_and_gives_the_same(test_images, monkeypatch):
    whole = Batches(test_images, "cpu")
    monkeypatch.setattr(room, "WHOLE_BYTES", {"cpu": 1000})
    mapped = Batches(test_images, "cpu")
    for one, other in zip(whole.in_order(100), mapped.in_order(100), strict=True):
        assert torch.equal(one[0], other[0])


def test_an_epoch_shows_each_image_at_most_once_in_an_order_of_its_own(test_images):
    part = Batches(test_images, "cpu")
    epochs = [torch.cat([images for images, _ in part.shuffled(50, 0, epoch, 0.0, False)]) for epoch in (0, 1)]
    assert len(epochs[0]) == 350  # of 359: a last batch of nine is left out
    assert len({image.numpy().tobytes() for image in epochs[0]}) > 340  # a few digits look alike to the last pixel
    assert not torch.equal(*epochs)
    again = torch.cat([images for images, _ in part.shuffled(50, 0, 1, 0.0, False)])
    assert torch.equal(epochs[1], again)
    assert steps_of(30, 50) == 1


def test_without_a_shift_nothing_moves():
    images = torch.rand(4, 3, 32, 32)
    assert torch.equal(moved(images, generator(), 0.0, False), images)


def test_a_mirror_image_is_one_and_only_some_are():
    images = torch.rand(40, 3, 32, 32)
    found = moved(images, generator(), 0.0, True)
    kept = [torch.allclose(a, b, atol=1e-4) for a, b in zip(images, found, strict=True)]
    turned = [torch.allclose(a.flip(-1), b, atol=1e-4) for a, b in zip(images, found, strict=True)]
    assert all(a != b for a, b in zip(kept, turned, strict=True))
    assert 5 < sum(turned) < 35


def test_a_shift_moves_the_middle_by_no_more_than_asked():
    images = torch.zeros(200, 3, 33, 33)
    images[:, :, 15:18, 15:18] = 1.0
    found = moved(images, generator(1), 0.1, False)[:, 0]
    where = torch.arange(33.0) - 16
    mass = found.sum(dim=(1, 2))
    centre = torch.stack([(found.sum(dim=axis) * where).sum(dim=1) / mass for axis in (1, 2)])
    assert 2.0 < centre.abs().max() < 0.1 * 33 * 1.1

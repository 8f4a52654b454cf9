"""Digits: all of scikit-learn's images, each in one part, in the same part on every machine."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from harness.config import DataConfig
from harness.networks.data import open_dataset
from harness.networks.data.dataset import PARTS


@pytest.fixture(scope="module")
def digits():
    return open_dataset(DataConfig(name="digits"))


def test_every_image_is_in_exactly_one_part(digits):
    names = [name for part in PARTS for name in digits.parts[part].names]
    assert len(names) == len(set(names)) == 1797


def test_the_split_is_fixed(digits):
    assert {part: len(digits.parts[part]) for part in PARTS} == {"train": 1259, "validation": 179, "test": 359}
    assert digits.parts["test"].names[:4] == ("digit 1", "digit 11", "digit 15", "digit 26")


def test_every_class_has_its_share_of_the_test_images(digits):
    counts = np.bincount(digits.parts["test"].labels)
    assert len(counts) == 10
    assert counts.min() >= 35


def test_an_image_is_the_one_of_its_name_with_its_label(digits):
    part, whole = digits.parts["test"], load_digits()
    place = int(part.names[7].removeprefix("digit "))
    assert part.labels[7] == whole.target[place]
    assert np.array_equal(np.asarray(part.read(7)), np.round(whole.images[place] * 255 / 16))

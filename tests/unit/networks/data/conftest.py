"""A small folder of real image files, one of which is corrupt."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def picture():
    """Return a function: picture(3) -> an RGB image of 50 x 40 pixels, another one for each seed."""

    def make(seed, size=(40, 50)):
        pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
        return Image.fromarray(pixels)

    return make


@pytest.fixture
def class_folders(picture, tmp_path):
    """Return a function: class_folders(root, {"cat": 5}) writes as many PNG files into each class's folder."""

    def make(root, counts):
        seed = 0
        for name, count in counts.items():
            (root / name).mkdir(parents=True)
            for number in range(count):
                seed += 1
                picture(seed).save(root / name / f"{number:03}.png")
        return root

    return make

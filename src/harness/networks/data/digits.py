"""scikit-learn's 1,797 handwritten digits, 8 x 8 grey: real labelled images that need no download.

Alpaydin and Kaynak: Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998 (the copy of its
test set that scikit-learn ships). The split is fixed and has every class in the same share.
"""

from __future__ import annotations

import numpy as np

from harness.config import DataConfig
from harness.networks.data.dataset import PARTS, DataSet, Part, digest_of
from harness.system.errors import UserError

SPLIT_SEED = 20_261_101  # no option: a number on digits is a number on these test images
TEST_SHARE, VALIDATION_SHARE = 0.2, 0.1


def read(cfg: DataConfig) -> DataSet:
    """Return the digits; raise UserError where scikit-learn is not installed."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise UserError("data=digits needs scikit-learn: pip install 'interaction-harness[data]'.") from None
    found = load_digits()
    pixels = np.round(found.images * (255 / 16)).astype(np.uint8)  # [1797, 8, 8], values from 0 to 16
    labels = found.target.astype(np.int64)
    content = digest_of([found.images.tobytes().hex(), labels.tobytes().hex(), str(SPLIT_SEED)])
    parts = {}
    for name, places in zip(PARTS, _split(labels), strict=True):
        parts[name] = _part(pixels[places], labels[places], places, f"{content} {name}")
    return DataSet("digits", tuple(str(digit) for digit in range(10)), parts, whole_image=True, mirrored=False)


def _part(pixels: np.ndarray, labels: np.ndarray, places: np.ndarray, digest: str) -> Part:
    from PIL import Image

    return Part(
        names=tuple(f"digit {place}" for place in places),
        labels=labels,
        read=lambda i: Image.fromarray(pixels[i]),
        digest=digest,
    )


def _split(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the places of the train, validation and test images, ascending."""
    generator = np.random.Generator(np.random.Philox(SPLIT_SEED))
    train, validation, test = [], [], []
    for digit in range(10):
        places = generator.permutation(np.flatnonzero(labels == digit))
        tests, checks = round(len(places) * TEST_SHARE), round(len(places) * VALIDATION_SHARE)
        test.append(places[:tests])
        validation.append(places[tests : tests + checks])
        train.append(places[tests + checks :])
    return tuple(np.sort(np.concatenate(group)) for group in (train, validation, test))  # type: ignore[return-value]

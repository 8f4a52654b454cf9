"""On labelled data real images are timed, in batches that change with the blocks and are the same for all cells."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from harness.config import DataConfig, ModelConfig
from harness.measure import worker
from harness.measure.cell import Cell
from harness.measure.worker import timed_batches
from harness.networks.data.dataset import images as synthetic_images
from harness.networks.data.labelled import labelled
from harness.networks.inputs import image_inputs

SHAPE = (3, 32, 32)
SPECS = image_inputs(32).specs


@pytest.fixture(scope="module")
def data(cache):
    return labelled(ModelConfig(name="densenet_tiny", image_size=32, num_classes=10), DataConfig(name="digits"), cache)


def cell(data, batch_size=8):
    made_inputs = partial(Cell.made_inputs, SimpleNamespace(own_inputs=None))
    return SimpleNamespace(batch_size=batch_size, input_seed=5, labelled=data, made_inputs=made_inputs)


def test_all_cells_are_timed_with_the_same_batches_of_different_test_images(data):
    one, other = (timed_batches(cell(data), SPECS) for _ in ("baseline", "combined"))
    assert len(one) == worker.MOST_BATCHES
    assert all(np.array_equal(a["input"], b["input"]) for a, b in zip(one, other, strict=True))
    assert not np.array_equal(one[0]["input"], one[1]["input"])
    test = data.test.batch(np.arange(data.test.count))
    assert all((test == image).all(axis=(1, 2, 3)).any() for image in one[0]["input"])


def test_large_batches_are_fewer_so_that_they_fit(data, monkeypatch):
    monkeypatch.setattr(worker, "MOST_BYTES", 3 * 8 * 4 * 3 * 32 * 32 + 1)
    assert len(timed_batches(cell(data), SPECS)) == 3
    assert len(timed_batches(cell(data, batch_size=400), SPECS)) == 1  # more than there are test images


def test_synthetic_images_are_one_batch_of_their_seed():
    (batch,) = timed_batches(cell(None), SPECS)
    assert np.array_equal(batch["input"], synthetic_images(5, 8, SHAPE))

"""What int8's scales are chosen on is neither what its cell is verified with nor what its accuracy is of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.measure.verify import reference
from harness.networks.data.labelled import Labelled, LabelledImages, labelled
from harness.networks.data.preprocessing import Preprocessing
from harness.sweep.build import _calibrated_on, _calibration_inputs
from harness.system.errors import CellError, UserError
from harness.techniques.arch.assembled import network
from harness.techniques.hw import int8

DIGITS = ("data=digits", "model.image_size=32", "model.num_classes=10", "reference=engine", "hw=int8")


@pytest.fixture
def calibrated(planned, cache):
    """Return a function: calibrated("hw.int8.images=9") -> what is calibrated on, its digest, verified with, tested."""

    def make(*more):
        plan = planned(*DIGITS, *more)
        data = labelled(plan.config.model, plan.config.data, cache)
        cell = next(cell for cell in plan.cells if cell.levels.calibration is not None)
        net = network(plan.config.model, cell.arch, None, "", data)
        found = _calibration_inputs(plan, cell, net, 0, data)["input"]
        verified = reference(net, plan.config, data).inputs["input"]
        return found, _calibrated_on(plan, cell, data), verified, data.test.batch(np.arange(data.test.count))

    return make


def each(images: np.ndarray) -> set[bytes]:
    return {image.tobytes() for image in images}


@pytest.mark.parametrize("batch_size", [2, 64])
def test_no_image_is_calibrated_on_that_is_verified_with_or_tested(calibrated, batch_size):
    found, _, verified, tested = calibrated(f"batch_size={batch_size}")
    assert len(found) == len(each(found)) == 128 and len(verified) == batch_size
    assert not each(found) & each(verified)
    assert not each(found) & each(tested) and not each(verified) & each(tested)


def test_all_batch_sizes_share_a_calibration_and_another_number_of_images_has_its_own(calibrated):
    few, name, _, _ = calibrated("batch_size=2", "hw.int8.images=9")
    again, same, _, _ = calibrated("batch_size=64", "hw.int8.images=9")
    more, other, _, _ = calibrated("batch_size=2", "hw.int8.images=10")
    assert name == same and np.array_equal(few, again)
    assert name != other and each(few) < each(more)


def data_of(count: int) -> Labelled:
    images = LabelledImages(Path(), count, 10, Preprocessing(32, 32), "digest")
    return Labelled(test=images, validation=images)


@pytest.mark.parametrize("count", [2, 3, 4, 5, 179, 2048])
@pytest.mark.parametrize("at_most", [1, 128, 10_000])
def test_validation_images_are_enough_for_both_from_two_on(count, at_most):
    data = data_of(count)
    places = data.calibration_images(at_most)
    assert len(set(places)) == len(places) == min(at_most, max(1, count * 3 // 4))
    for batch_size in (1, 7, 300):
        verified = data.verification_images(batch_size)
        assert len(verified) == batch_size and len(set(verified)) == min(batch_size, count - max(1, count * 3 // 4))
        assert not set(verified) & set(places)
        assert set(verified) | set(places) <= set(range(count))


def test_the_only_readable_validation_image_verifies_and_nothing_is_calibrated():
    assert data_of(1).verification_images(3).tolist() == [0, 0, 0]
    with pytest.raises(CellError, match=r"^1 readable validation image, and int8 needs 2: one to calibrate on and "):
        data_of(1).calibration_images(128)


def test_a_data_set_with_a_single_validation_image_is_refused(planned, monkeypatch):
    from harness.networks.data import labelled as module

    config = planned(*DIGITS).config
    found = module.opened(config.data)
    parts = {**found.parts, "validation": found.parts["validation"].__class__(("x",), np.zeros(1), None, "")}
    monkeypatch.setattr(module, "opened", lambda data: found.__class__("digits", found.classes, parts))
    with pytest.raises(UserError, match="data=digits has 1 validation image; it takes at least 2"):
        int8.check(config.hw.int8, config, None)

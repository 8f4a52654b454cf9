"""The exit threshold is chosen on validation images: for a share, or for a drop in accuracy that is not exceeded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harness.config import ArchConfig, DataConfig
from harness.networks.data.labelled import labelled
from harness.sweep.plan import check_config
from harness.system.errors import UserError
from harness.techniques.arch.assembled import network
from harness.techniques.arch.exit_policy import largest_share

SURE = np.array([0.9, 0.8, 0.7, 0.6, 0.5], dtype=np.float32)
ALL, NONE = np.ones(5, dtype=bool), np.zeros(5, dtype=bool)


def test_where_the_exit_is_never_worse_all_may_leave():
    assert largest_share(SURE, ALL, ALL, 0.0) == 1.0


def test_where_the_exit_is_always_worse_none_may_leave():
    assert largest_share(SURE, NONE, ALL, 0.0) == 0.0


@pytest.mark.parametrize(("drop", "share"), [(0.0, 0.4), (0.2, 0.6), (0.4, 0.8), (0.6, 1.0)])
def test_as_many_leave_as_the_drop_allows(drop, share):
    early = np.array([True, True, False, False, False])
    assert largest_share(SURE, early, ALL, drop) == share


def test_a_loss_that_is_won_back_later_counts_as_none():
    early, late = np.array([False, True, True, True, True]), np.array([True, False, True, True, True])
    assert largest_share(SURE, early, late, 0.0) == 1.0


def test_equal_confidences_leave_together_or_not_at_all():
    sure = np.array([0.9, 0.7, 0.7, 0.7, 0.5], dtype=np.float32)
    early = np.array([True, True, False, True, True])
    assert largest_share(sure, early, ALL, 0.0) == 0.2


DIGITS = ("data=digits", "model.image_size=32", "arch=early_exit")


@pytest.fixture(scope="module")
def digits(configured, cache):
    config = configured(*DIGITS)
    return labelled(config.model, config.data, cache)


def test_the_share_is_reached_on_the_validation_images(configured, digits):
    config = configured(*DIGITS, "arch.early_exit.exit_share=0.25")
    router = network(config.model, config.arch, data=digits).router
    assert router.decision == "threshold"
    assert router.exit_share == pytest.approx(0.25, abs=1 / digits.validation.count)


def test_on_labelled_data_a_cell_decides_by_its_threshold_and_on_synthetic_by_a_share(configured, digits):
    config = configured(*DIGITS)
    assert network(config.model, config.arch, data=digits).router.decision == "threshold"
    assert network(config.model, config.arch).router.decision == "share"
    assert isinstance(config.arch, ArchConfig)


def test_thresholds_need_validation_images(configured, digits):
    config = configured(*DIGITS)
    with pytest.raises(UserError, match="thresholds are chosen on validation images"):
        network(config.model, config.arch, data=replace(digits, validation=None))


def test_a_drop_in_accuracy_needs_labels(configured):
    config = configured("arch=early_exit", "arch.early_exit.max_accuracy_drop=0.01")
    assert config.data == DataConfig()
    with pytest.raises(UserError, match="needs labelled data"):
        check_config(config)

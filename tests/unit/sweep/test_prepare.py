"""References: computed once for all cells that are the same network on the same images, and for no other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harness.measure import verify
from harness.measure.verify import reference
from harness.networks.data.labelled import labelled
from harness.techniques.arch.assembled import network


@pytest.fixture
def counted(monkeypatch):
    """Return the list of references that were really computed, from none kept."""
    seen = []
    real = verify._reference
    monkeypatch.setattr(verify, "_references", {})
    monkeypatch.setattr(verify, "_reference", lambda net, *rest: seen.append(net) or real(net, *rest))
    return seen


def test_cells_of_the_same_network_share_a_reference(configured, counted):
    config = configured("arch=grouped")
    nets = [network(config.model, arch) for arch in (config.arch, configured().arch, config.arch)]
    first, plain, again = (reference(net, config) for net in nets)
    assert again is first
    assert plain is not first
    assert len(counted) == 2


def test_another_batch_seed_or_size_of_image_is_another_reference(configured, counted):
    config = configured()
    large = configured("model.image_size=96")
    others = [
        replace(config, batch_size=3),
        replace(config, data=replace(config.data, seed=5)),
        large,
    ]
    found = [reference(network(one.model, one.arch), one) for one in (config, *others)]
    assert len(counted) == 4
    assert found[3].inputs["input"].shape == (2, 3, 96, 96)  # the same weights, other images


def test_trained_on_images_a_network_is_verified_on_validation_images(configured, cache):
    config = configured("data=digits", "model.image_size=32", "batch_size=3")
    net, data = network(config.model, config.arch), labelled(config.model, config.data, cache)
    found = reference(net, config, data)
    np.testing.assert_array_equal(found.inputs["input"], data.validation.batch(data.verification_images(3)))
    assert reference(net, config) is not found


def test_the_reference_used_last_is_kept_longest(configured, counted):
    configs = [replace(configured(), batch_size=size) for size in range(1, verify.MOST_REFERENCES + 1)]
    net = network(configs[0].model, configs[0].arch)
    for config in (*configs, configs[0]):
        reference(net, config)
    reference(net, replace(configs[0], batch_size=9))  # pushes out the one that was not used for longest
    before = len(counted)
    reference(net, configs[0])
    assert len(counted) == before
    reference(net, configs[1])
    assert len(counted) == before + 1

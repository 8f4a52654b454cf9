"""What is counted is said the same everywhere: images, or samples where a network takes something else."""

from __future__ import annotations

import pytest

from harness.networks.inputs import TensorSpec, image_inputs, sample_word
from harness.results.headline import columns_for_people
from harness.results.units import counted_in, shared_unit, unit_of_throughput

IDS, MASK = TensorSpec("ids", (-1, 64), "int64"), TensorSpec("mask", (-1, 64), "bool")


@pytest.mark.parametrize(
    ("specs", "word"),
    [
        (image_inputs(64).specs, "image"),
        ((TensorSpec("input", (8, 3, 48, 64), "float16"),), "image"),
        ((IDS, MASK), "sample"),
        ((IDS,), "sample"),
        ((*image_inputs(64).specs, IDS), "sample"),
        ((TensorSpec("spectrum", (-1, 1, 80, 300), "float32"),), "sample"),
        ((TensorSpec("numbers", (-1, 3), "float32"),), "sample"),
    ],
)
def test_pictures_in_colour_are_images_and_all_else_is_samples(specs, word):
    assert sample_word(specs) == word


def test_a_row_says_its_unit_and_one_from_before_counts_images():
    assert unit_of_throughput({"boundary": "wall", "sample": "sample"}) == "samples/s"
    assert unit_of_throughput({"boundary": "at_slo", "sample": "sample"}) == "requests/s"
    assert unit_of_throughput({"boundary": "device", "sample": float("nan")}) == "images/s"
    assert counted_in({"sample": "sample"}, "GFLOP/image") == "GFLOP/sample"
    assert shared_unit(["images/s", "samples/s", "images/s"]) == "images/s or samples/s"
    assert columns_for_people({"boundary": "wall", "throughput/wall": 12.34, "sample": "sample"})["unit"] == "samples/s"

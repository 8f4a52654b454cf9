"""The arithmetic of the roof, on round numbers."""

from __future__ import annotations

import pytest

from harness.measure.ceilings import Ceilings
from harness.results.roofline import ImageWork, position

ROOF = Ceilings(copy_gb_s=1000.0, matmul_fp32_tflops=50.0, matmul_fp16_tflops=500.0)
IMAGE = ImageWork(flop=5e9, bytes=40e6)  # 100 us of fp32, 10 us of fp16, 40 us of copying


def test_the_nearer_ceiling_is_the_one_that_takes_longer():
    full, half = (position(IMAGE, dtype, 5000.0, ROOF) for dtype in ("float32", "float16"))
    assert (full.share, full.memory_bound) == (pytest.approx(0.5), False)  # 100 us of 200
    assert (half.share, half.memory_bound) == (pytest.approx(0.2), True)  # 40 us of 200


def test_a_share_above_one_is_told_as_it_is():
    assert position(IMAGE, "float16", 50_000.0, ROOF).share == pytest.approx(2.0)


def test_without_a_ceiling_in_its_precision_a_cell_has_no_place():
    assert position(IMAGE, "float16", 5000.0, Ceilings(1000.0, 50.0)) is None

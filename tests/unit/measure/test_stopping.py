"""When a quartet is measured well enough: a decided verdict and a narrow interval, both."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.config import ProtocolConfig
from harness.measure.cell import ROLES, Slice
from harness.measure.samples import Samples
from harness.measure.stopping import Standing, standing
from harness.stats import estimate

SETTINGS = ProtocolConfig(half_width=0.03, margin=0.05)


def samples(means, blocks: int, noise: float = 0.002, groups=None) -> Samples:
    """Return blocks of one iteration each, with these mean milliseconds and relative noise."""
    generator = np.random.default_rng(3)
    out = Samples(ROLES[: len(means)] if len(means) != 2 else ("baseline", "hw"), batch_size=1)
    for block in range(blocks):
        for order, role in enumerate(out.roles):
            ms = means[order] * math.exp(generator.normal(0, noise))
            out.add(role, 0, block, order, Slice({"wall": [ms]}))
        out.close_block(groups[block] if groups else 0)
    return out


def test_a_quartet_stands_on_its_factor():
    measured = samples((8.0, 4.0, 2.0, 0.5), blocks=20)
    now = standing(measured, "wall", SETTINGS)
    found = estimate(measured.throughput("wall"), measured.groups)
    assert (now.kind, now.blocks, now.verdict) == ("factor", 20, "amplify")
    assert now.value == pytest.approx(found.factor)
    assert now.value == pytest.approx(2.0, rel=0.01)
    assert now.half_width == pytest.approx(math.log(found.high / found.factor))
    assert now.converged(SETTINGS)


def test_a_pair_stands_on_its_gain_and_a_lone_cell_on_its_throughput():
    gain = standing(samples((8.0, 2.0), blocks=20), "wall", SETTINGS)
    assert (gain.kind, gain.verdict) == ("gain", None)
    assert gain.value == pytest.approx(4.0, rel=0.01)
    alone = standing(samples((8.0,), blocks=20), "wall", SETTINGS)
    assert (alone.kind, alone.verdict) == ("throughput", None)
    assert alone.value == pytest.approx(125.0, rel=0.01)
    assert gain.converged(SETTINGS)
    assert alone.converged(SETTINGS)


def test_a_wide_interval_goes_on_even_where_the_verdict_is_clear():
    now = standing(samples((8.0, 4.0, 2.0, 0.1), blocks=10, noise=0.1), "wall", SETTINGS)
    assert now.verdict == "amplify"
    assert now.half_width > SETTINGS.half_width
    assert not now.converged(SETTINGS)


def test_a_narrow_interval_across_the_margin_goes_on():
    now = Standing("factor", 1.05, 0.001, "inconclusive", blocks=50)
    assert not now.converged(SETTINGS)
    assert Standing("factor", 1.05, 0.001, "independent", blocks=50).converged(SETTINGS)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_so_few_blocks_never_end_a_quartet(count):
    now = standing(samples((8.0, 4.0, 2.0, 0.5), blocks=count, noise=1e-9), "wall", SETTINGS)
    assert now.verdict == "inconclusive"
    assert not now.converged(SETTINGS)


@pytest.mark.parametrize("width", [1, 2, 4])
def test_one_block_has_no_interval(width):
    now = standing(samples((8.0, 4.0, 2.0, 0.5)[:width], blocks=1), "wall", SETTINGS)
    assert not math.isfinite(now.half_width)
    assert not now.converged(SETTINGS)


def test_more_blocks_narrow_the_interval():
    widths = [standing(samples((8.0, 4.0, 2.0, 1.0), n, noise=0.02), "wall", SETTINGS).half_width for n in (10, 160)]
    assert widths[1] < widths[0] / 2

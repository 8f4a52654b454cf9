"""What must hold for the estimate of any quartet, whatever the numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from harness.stats import estimate

Blocks = NDArray[np.float64]
THROUGHPUT = st.floats(1.0, 1e5)
COMMON = settings(max_examples=60, deadline=None)


def quartets(min_blocks: int = 3, max_blocks: int = 30) -> st.SearchStrategy[Blocks]:
    shapes = st.tuples(st.integers(min_blocks, max_blocks), st.just(4))
    return hnp.arrays(np.float64, shapes, elements=THROUGHPUT)


def same_interval(a: object, b: object) -> bool:
    names = ("factor", "low", "high", "half_width")
    return all(getattr(a, name) == pytest.approx(getattr(b, name), rel=1e-6, abs=1e-9) for name in names)


@COMMON
@given(quartets(), st.floats(1e-3, 1e3))
def test_the_unit_of_throughput_does_not_matter(blocks: Blocks, unit: float) -> None:
    assert same_interval(estimate(blocks), estimate(blocks * unit))


@COMMON
@given(quartets())
def test_arch_and_hw_play_the_same_part(blocks: Blocks) -> None:
    swapped = estimate(blocks[:, [0, 2, 1, 3]])
    assert same_interval(estimate(blocks), swapped)
    assert swapped.gains.arch == pytest.approx(estimate(blocks).gains.hw)


@COMMON
@given(quartets())
def test_trading_baseline_and_combined_for_arch_and_hw_inverts_the_factor(blocks: Blocks) -> None:
    there, back = estimate(blocks), estimate(blocks[:, [1, 0, 3, 2]])
    assert back.factor == pytest.approx(1 / there.factor)
    assert back.half_width == pytest.approx(there.half_width, rel=1e-6, abs=1e-9)


@COMMON
@given(quartets(), st.floats(0.1, 10), st.integers(0, 3))
def test_a_faster_cell_scales_the_factor_and_nothing_else(blocks: Blocks, by: float, cell: int) -> None:
    faster = blocks.copy()
    faster[:, cell] *= by
    before, after = estimate(blocks), estimate(faster)
    assert after.factor == pytest.approx(before.factor * by ** (1 if cell in (0, 3) else -1))
    assert after.half_width == pytest.approx(before.half_width, rel=1e-6, abs=1e-9)


@COMMON
@given(quartets(min_blocks=10, max_blocks=10), hnp.arrays(np.float64, (10, 1), elements=st.floats(0.1, 10)))
def test_a_drift_common_to_the_four_cells_cancels(blocks: Blocks, drift: Blocks) -> None:
    assert same_interval(estimate(blocks), estimate(blocks * drift))


@COMMON
@given(quartets(), st.floats(0.5, 0.98))
def test_more_confidence_needs_a_wider_interval(blocks: Blocks, level: float) -> None:
    blocks[0, 0] *= 1.5  # not a constant series
    blocks[1, 0] *= 0.5
    narrow, wide = estimate(blocks, level=level), estimate(blocks, level=level + 0.01)
    assert wide.half_width > narrow.half_width
    assert wide.low < narrow.low < narrow.high < wide.high


@COMMON
@given(quartets())
def test_the_gains_and_the_factor_agree(blocks: Blocks) -> None:
    found = estimate(blocks)
    assert found.gains.expected == pytest.approx(found.gains.arch * found.gains.hw)
    assert found.factor == pytest.approx(found.gains.combined / found.gains.expected)


@COMMON
@given(quartets(min_blocks=8, max_blocks=24), st.integers(2, 6))
def test_restarts_never_make_the_interval_narrower_than_the_blocks_inside_them(blocks: Blocks, restarts: int) -> None:
    """The between-restart t interval is a lower limit of the width as well."""
    groups = np.arange(len(blocks)) * restarts // len(blocks)
    found = estimate(blocks, groups)
    logs = np.log(blocks)
    series = logs[:, 3] + logs[:, 0] - logs[:, 1] - logs[:, 2]
    pooled = np.sqrt(sum(np.sum((s - s.mean()) ** 2) for s in np.split(series, _starts(groups))) / len(series) ** 2)
    assert found.half_width >= pooled * (1 - 1e-9)
    assert found.restarts == restarts


@COMMON
@given(st.integers(0, 10_000), st.floats(-0.4, 0.4), st.integers(1, 5), st.floats(0.0, 0.1))
def test_the_p_value_is_the_level_at_which_the_verdict_stands_or_falls(
    seed: int, log_factor: float, restarts: int, between: float
) -> None:
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(restarts), 12)
    logs = 0.02 * rng.standard_normal((groups.size, 4))
    logs[:, 3] += log_factor + between * rng.standard_normal(restarts)[groups]
    found = estimate(np.exp(logs), groups)
    assert (found.verdict != "inconclusive") == (found.p_value < 1 - found.level)


def _starts(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.flatnonzero(np.diff(groups)) + 1

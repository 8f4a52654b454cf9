"""The F test of the predecessor: against scipy, its size where nothing is carried over, and that it sees what is."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from harness.measure.design import Orders
from harness.stats.stationarity import carry_over

CELLS = ("baseline", "arch", "hw", "combined")


def visits(blocks: int, effect: float, seed: int) -> tuple[np.ndarray, list[list[str]]]:
    """Return throughputs of sd 1%, slower by `effect` after `baseline`, and the predecessors, of balanced orders."""
    generator = np.random.default_rng(seed)
    orders, out, previous = Orders(generator), np.empty((blocks, 4)), []
    for block in range(blocks):
        order = orders.draw(CELLS)
        before = dict(zip(order, ["", *order], strict=False))
        previous.append([before[cell] for cell in CELLS])
        for place, cell in enumerate(CELLS):
            slower = effect if before[cell] == "baseline" else 0.0
            out[block, place] = np.exp(generator.normal(0, 0.01) - slower)
    return out, previous


def test_of_one_cell_beside_a_constant_one_it_is_the_one_way_analysis_of_variance():
    values = np.random.default_rng(0).normal(size=12)
    blocks = np.exp(np.stack([values, -values], axis=1))  # mean 0 in each block
    before = ["a", "b", "c"] * 4
    found = carry_over(blocks, [[name, name] for name in before])
    groups = [values[np.array(before) == name] for name in "abc"]
    expected = stats.f_oneway(*groups)
    assert found.f == pytest.approx(expected.statistic)  # both cells say the same
    assert found.p_value < expected.pvalue or found.f < 1


def test_where_nothing_is_carried_over_few_runs_say_so_and_where_one_percent_is_most_do():
    def share(effect: float) -> float:
        return float(np.mean([carry_over(*visits(40, effect, seed)).p_value < 0.05 for seed in range(200)]))

    assert share(0.0) < 0.10
    assert share(0.02) > 0.9


def test_too_little_tells_nothing():
    assert carry_over(np.ones((1, 4)), [["", "a", "b", "c"]]) is None
    assert carry_over(np.ones((5, 1)), [[""]] * 5) is None
    assert carry_over(np.ones((5, 4)), [["", "a", "b", "c"]] * 5) is None


def test_its_share_is_that_of_the_variance_between_predecessors_whatever_the_blocks_have_in_common():
    values = np.array([0.01, 0.03, 0.02, 0.05, 0.04, 0.06])
    names = ["a", "b"] * 3
    drift = np.array([0.0, 5.0, -3.0, 2.0, 7.0, 1.0])[:, None]  # the same in both cells of a block
    found = carry_over(np.exp(np.stack([values, -values], axis=1) + drift), [[name, name] for name in names])
    groups = [values[::2], values[1::2]]
    between = sum(3 * (group.mean() - values.mean()) ** 2 for group in groups)
    assert found.share == pytest.approx(between / ((values - values.mean()) ** 2).sum())
    assert found.f == pytest.approx(stats.f_oneway(*groups).statistic)


def test_one_free_difference_within_the_predecessors_is_enough_and_none_is_not():
    of_two = [["a", "x"], ["a", "x"], ["b", "x"]]  # first cell: 1 between, 1 within; second: 0 and 2
    assert carry_over([[1.0, 2.0], [1.1, 2.0], [1.3, 2.0]], of_two) is not None
    alone = [["a", "x"], ["b", "y"], ["c", "z"]]
    assert carry_over([[1.0, 2.0], [1.1, 2.0], [1.3, 2.0]], alone) is None
    the_same = [["a", "x"]] * 3
    assert carry_over([[1.0, 2.0], [1.1, 2.0], [1.3, 2.0]], the_same) is None
    assert carry_over([1.0, 2.0, 3.0], [["a"], ["b"], ["c"]]) is None
    assert carry_over(np.array([[1, 2], [2, 2], [3, 2]]), of_two).f > 0  # whole numbers are numbers

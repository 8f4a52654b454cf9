"""Orders of visits: each cell follows each other one equally often, and none runs twice in a row."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from harness.measure.design import Orders, williams


@pytest.mark.parametrize("count", [2, 3, 4, 5, 7, 12])
def test_in_a_square_each_ordered_pair_of_neighbours_comes_equally_often(count):
    rows = williams(count)
    assert len(rows) == count * (1 + count % 2)
    assert all(sorted(row) == list(range(count)) for row in rows)
    pairs = Counter(pair for row in rows for pair in itertools.pairwise(row))
    assert len(pairs) == count * (count - 1)
    assert set(pairs.values()) == {1 + count % 2}


def drawn(cells: str, blocks: int, seed: int = 0) -> list[list[str]]:
    orders, out, last = Orders(np.random.default_rng(seed)), [], ""
    for _ in range(blocks):
        out.append(orders.draw(cells, last))
        last = out[-1][-1]
    return out


def test_over_many_blocks_neighbours_are_balanced_and_no_cell_follows_itself():
    blocks = drawn("abcd", 400)
    assert all(before[-1] != after[0] for before, after in itertools.pairwise(blocks))
    pairs = Counter(pair for block in blocks for pair in itertools.pairwise(block))
    assert max(pairs.values()) / min(pairs.values()) < 1.35
    firsts = Counter(block[0] for block in blocks)
    assert max(firsts.values()) / min(firsts.values()) < 1.35


def test_of_two_cells_either_may_begin_and_one_is_no_choice():
    assert {"".join(block) for block in drawn("ab", 20)} == {"ab", "ba"}
    assert drawn("a", 3) == [["a"]] * 3


def test_orders_follow_the_seed_and_begin_anew_when_a_cell_leaves():
    assert drawn("abcd", 9, seed=1) == drawn("abcd", 9, seed=1) != drawn("abcd", 9, seed=2)
    orders = Orders(np.random.default_rng(0))
    orders.draw("abcd")
    assert sorted(orders.draw("abd")) == ["a", "b", "d"]

"""The learning rate rises in a line, falls in half a cosine, and is never above its highest."""

from __future__ import annotations

from itertools import pairwise

import pytest

from harness.commands.train.loop import learning_rate


def test_it_rises_to_the_highest_and_falls_to_nearly_nothing():
    rates = [learning_rate(step, 100, 10, 1.0) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert rates[10] == max(rates) == 1.0
    assert all(later < earlier for earlier, later in pairwise(rates[10:]))
    assert rates[-1] < 0.001
    assert rates[55] == pytest.approx(0.5)


def test_without_a_rise_it_starts_at_the_highest():
    assert learning_rate(0, 10, 0, 0.3) == 0.3

"""Holm's adjustment: the textbook's numbers, and never a stronger verdict than before."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.stats import Interaction, estimate, holm
from harness.stats.multiplicity import holm_p_values


def interaction(seed: int, log_factor: float, sd: float = 0.1, blocks: int = 40) -> Interaction:
    logs = sd / 2 * np.random.default_rng(seed).standard_normal((blocks, 4))
    logs[:, 3] += log_factor
    return estimate(np.exp(logs))


def test_adjusted_p_values_worked_out_by_hand() -> None:
    """0.01 * 4 = 0.04; 0.02 * 3 = 0.06; 0.03 * 2 = 0.06; 0.04 * 1 = 0.04, but never below the one before."""
    assert holm_p_values([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm_p_values([0.5, 0.6]) == pytest.approx([1.0, 1.0])
    assert holm_p_values([]) == []


def test_a_single_quartet_keeps_its_verdict() -> None:
    for log_factor in (-0.4, 0.0, 0.07, 0.4):
        alone = interaction(1, log_factor)
        assert holm([alone]) == [alone.verdict]


def test_a_narrow_decision_does_not_survive_a_large_sweep() -> None:
    narrow = dataclasses.replace(interaction(2, 0.4), p_value=0.03)
    undecided = interaction(3, 0.05)
    assert undecided.verdict == "inconclusive"
    assert holm([narrow]) == ["amplify"]
    assert holm([narrow, undecided]) == ["inconclusive", "inconclusive"]


def test_clear_decisions_survive() -> None:
    sweep = [interaction(4, 0.5), interaction(5, -0.5), interaction(6, 0.05), interaction(7, 0.0, sd=0.01)]
    assert holm(sweep) == ["amplify", "conflict", "inconclusive", "independent"]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 99), st.floats(-0.3, 0.3)), min_size=1, max_size=8))
def test_an_adjusted_verdict_is_never_stronger(quartets: list[tuple[int, float]]) -> None:
    sweep = [interaction(seed, log_factor, blocks=20) for seed, log_factor in quartets]
    for before, after in zip(sweep, holm(sweep), strict=True):
        assert after in (before.verdict, "inconclusive")


def test_a_forced_doubt_stays_a_doubt() -> None:
    blocks = np.tile([100.0, 100.0, 100.0, 200.0], (20, 1))
    assert holm([estimate(blocks, host_bound=True)]) == ["inconclusive"]


def test_levels_do_not_mix() -> None:
    one = interaction(8, 0.4)
    with pytest.raises(ValueError, match="same level"):
        holm([one, dataclasses.replace(one, level=0.9)])

"""Holm's and Benjamini and Hochberg's adjustment: the textbooks' numbers, and never a stronger verdict than before."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.config import PROTOCOL_RANGES, ProtocolConfig
from harness.stats import Interaction, benjamini_hochberg, estimate, holm
from harness.stats.multiplicity import (
    BENJAMINI_HOCHBERG,
    CORRECTIONS,
    HOLM,
    bh_p_values,
    correction_of,
    holm_p_values,
)


def interaction(seed: int, log_factor: float, sd: float = 0.1, blocks: int = 40) -> Interaction:
    logs = sd / 2 * np.random.default_rng(seed).standard_normal((blocks, 4))
    logs[:, 3] += log_factor
    return estimate(np.exp(logs))


def test_adjusted_p_values_worked_out_by_hand() -> None:
    """0.01 * 4 = 0.04; 0.02 * 3 = 0.06; 0.03 * 2 = 0.06; 0.04 * 1 = 0.04, but never below the one before."""
    assert holm_p_values([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm_p_values([0.6, 0.7]) == pytest.approx([1.0, 1.0])
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
    for before, strict, screen in zip(sweep, holm(sweep), benjamini_hochberg(sweep), strict=True):
        assert screen in (before.verdict, "inconclusive")
        assert strict in (screen, "inconclusive")


def test_a_forced_doubt_stays_a_doubt() -> None:
    blocks = np.tile([100.0, 100.0, 100.0, 200.0], (20, 1))
    assert holm([estimate(blocks, host_bound=True)]) == ["inconclusive"]


def test_levels_do_not_mix() -> None:
    one = interaction(8, 0.4)
    for correct in (holm, benjamini_hochberg):
        with pytest.raises(ValueError, match=r"same level, got \[0\.9\d*, 0\.95\d*\]$"):
            correct([one, dataclasses.replace(one, level=0.9)])


def test_benjamini_and_hochbergs_p_values_worked_out_by_hand() -> None:
    """0.01 * 4 / 1, 0.02 * 4 / 2, 0.03 * 4 / 3, 0.04 * 4 / 4: all 0.04; the last of five stays what it is."""
    assert bh_p_values([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.04] * 4)
    assert bh_p_values([0.001, 0.9, 0.02, 0.5]) == pytest.approx([0.004, 0.9, 0.04, 2 / 3])
    assert bh_p_values([]) == []
    assert bh_p_values([]) == []


def test_the_fifteen_p_values_of_benjamini_and_hochbergs_paper() -> None:
    """Section 4.1 of the paper of 1995: at 0.05 Bonferroni's (and Holm's) procedure rejects three, theirs four."""
    published = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719,
                 0.6528, 0.7590, 1.000]  # fmt: skip
    assert sum(p < 0.05 for p in holm_p_values(published)) == 3
    assert sum(p < 0.05 for p in bh_p_values(published)) == 4


def test_in_a_screen_of_many_benjamini_and_hochberg_keep_what_holm_withdraws() -> None:
    found = dataclasses.replace(interaction(2, 0.4), p_value=0.004)
    nothing = dataclasses.replace(interaction(3, 0.05), p_value=0.6)
    screen = [found] * 10 + [nothing] * 30
    assert holm(screen) == ["inconclusive"] * 40
    assert benjamini_hochberg(screen) == ["amplify"] * 10 + ["inconclusive"] * 30


def test_of_a_screen_whose_quartets_have_no_effect_or_a_large_one_few_verdicts_are_false() -> None:
    """The mean share of false ones among the verdicts, over 300 screens of 40, half of them without an effect."""
    rng = np.random.default_rng(5)
    shares = []
    for _ in range(300):
        nulls, effects = rng.uniform(size=20), rng.uniform(size=20) ** 8
        rejected = np.array(bh_p_values([*nulls, *effects])) < 0.05
        shares.append(rejected[:20].sum() / max(1, rejected.sum()))
    assert 0.01 < np.mean(shares) < 0.05


def test_the_options_choices_are_the_corrections() -> None:
    allowed = PROTOCOL_RANGES["family"]
    assert allowed.says == f"choose one of {', '.join(CORRECTIONS)}"
    assert allowed.holds(ProtocolConfig().family) and not allowed.holds("fdr")


def test_a_family_is_corrected_as_it_was_measured_and_by_holm_where_that_is_open() -> None:
    assert correction_of(["bh", "bh"]) is BENJAMINI_HOCHBERG
    assert correction_of(["holm"]) is HOLM
    assert correction_of([]) is correction_of([None, None]) is correction_of(["bh", "holm"]) is HOLM

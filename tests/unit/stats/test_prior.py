"""What other measurements say of builds, pooled with the few of one measurement."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from harness.stats import Verdict, estimate
from harness.stats.prior import KnownSpread, of_a_contrast

SEEN = np.log1p(np.array([0.0, 0.07, 0.75, 0.18, 2.18, 0.03, 0.17, 3.87]) / 100)  # eight builds: experiments/rebuilds
BLOCKS = 6  # of a build


def of_builds(moves, factor=1.0, noise=1e-4, seed=0):
    """Return blocks [B, 4] and their builds: build b has its factor moved by exp(moves[b])."""
    random = np.random.default_rng(seed)
    blocks = 1000 * np.exp(random.normal(0, noise, (BLOCKS * len(moves), 4)))
    builds = np.repeat(np.arange(len(moves)), BLOCKS)
    blocks[:, 3] *= factor * np.exp(np.asarray(moves)[builds])
    return blocks, builds


def judged(moves, spread=None, **options):
    blocks, builds = of_builds(moves, **options)
    return estimate(blocks, builds, builds=builds, build_spread=spread)


def test_two_variances_of_the_same_are_pooled_by_their_degrees_of_freedom() -> None:
    variance, df = KnownSpread(0.02, 8).pooled_with(np.array(0.01**2), 2)
    assert (float(variance), df) == (pytest.approx((7 * 0.02**2 + 2 * 0.01**2) / 9), 9)


def test_builds_that_vary_more_than_is_known_keep_their_own_variance() -> None:
    variance, df = KnownSpread(0.01, 8).pooled_with(np.array(0.05**2), 2)
    assert (float(variance), df) == (pytest.approx(0.05**2), 9)


def test_the_interval_of_three_builds_is_students_with_what_is_known() -> None:
    moves, known = (-0.01, 0.0, 0.01), KnownSpread(0.02, 8)
    alone, pooled = judged(moves), judged(moves, known)
    assert alone.half_width == pytest.approx(stats.t.ppf(0.975, 2) * 0.01 / math.sqrt(3), rel=0.02)
    sd = math.sqrt((7 * 0.02**2 + 2 * 0.01**2) / 9)
    assert pooled.half_width == pytest.approx(stats.t.ppf(0.975, 9) * sd / math.sqrt(3), rel=0.02)


def test_of_one_build_nothing_is_added() -> None:
    assert judged((0.0,), KnownSpread(0.02, 8)) == judged((0.0,))


def test_the_reason_asks_for_builds_where_blocks_could_not_decide() -> None:
    found = judged((-0.03, 0.0, 0.03))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.reason.endswith("measure more builds")
    assert judged((0.0, 0.0, 0.0), noise=0.2).reason.endswith("measure longer")


def test_blocks_may_stop_where_only_builds_keep_the_interval_wide() -> None:
    found = judged((-0.03, 0.0, 0.03))
    assert found.stopping_half_width < 0.005 < found.half_width


def test_restarts_of_a_build_say_nothing_of_other_builds() -> None:
    """Three builds, each in two restarts that are alike: what these builds do is known well, what others do is not."""
    blocks, builds = of_builds((-0.03, 0.0, 0.03))
    restarts = np.arange(len(blocks)) // (BLOCKS // 2)
    found = estimate(blocks, restarts, builds=builds)
    assert (found.restarts, found.builds) == (6, 3)
    assert found.half_width == pytest.approx(judged((-0.03, 0.0, 0.03)).half_width, rel=0.02)
    assert found.stopping_half_width < 0.005
    assert found.reason.endswith("measure more builds")


def test_restarts_that_differ_within_a_build_are_noise_of_these_builds() -> None:
    moves = np.repeat((-0.04, 0.04, -0.04, 0.04, -0.04, 0.04), BLOCKS)  # of six restarts, in pairs of a build
    blocks = 1000 * np.exp(np.random.default_rng(3).normal(0, 1e-4, (moves.size, 4)))
    blocks[:, 3] *= np.exp(moves)
    restarts = np.arange(moves.size) // BLOCKS
    found = estimate(blocks, restarts, builds=restarts // 2)
    assert found.half_width == pytest.approx(stats.t.ppf(0.975, 3) * math.sqrt(6 * 0.04**2 / 3 / 6), rel=0.02)
    assert found.reason.endswith("measure longer")


def test_a_block_of_each_build_is_judged_by_the_builds_alone() -> None:
    found = estimate(1000 * np.ones((6, 4)), builds=[0, 1, 2, 3, 4, 5])
    assert (found.blocks, found.builds, found.factor) == (6, 6, 1.0)


def test_of_unequal_restarts_each_build_tells_what_its_own_scatter_is() -> None:
    """Two restarts of the first build, one of the others: one degree of freedom, and what is left of two means."""
    moves = np.repeat((-0.001, 0.001, 0.0, 0.0), BLOCKS)
    blocks = 1000 * np.exp(np.random.default_rng(3).normal(0, 1e-6, (moves.size, 4)))
    blocks[:, 3] *= np.exp(moves)
    restarts = np.arange(moves.size) // BLOCKS
    found = estimate(blocks, restarts, builds=[0] * 2 * BLOCKS + [1] * BLOCKS + [2] * BLOCKS)
    shares = np.array([1 / 6, 1 / 6, 1 / 3, 1 / 3])
    expected = stats.t.ppf(0.975, 1) * math.sqrt(2 * 0.001**2 * np.sum(shares**2))
    assert found.half_width == pytest.approx(expected, rel=0.02)


def test_builds_are_asked_for_where_so_few_can_decide_nothing_however_long_they_are_measured() -> None:
    known = KnownSpread(0.0195, 8)
    assert known.floor(0.95, 3) == pytest.approx(stats.t.ppf(0.975, 9) * 0.0195 * math.sqrt(7 / 9 / 3))
    near = judged((0.0, 0.001, -0.001), known, factor=1.036, noise=0.01)
    assert near.verdict is Verdict.INCONCLUSIVE and near.reason.endswith("measure more builds")
    assert judged((0.0, 0.0, 0.0), known, factor=1.0, noise=0.2).reason.endswith("measure longer")


@pytest.mark.parametrize(("sd", "count"), [(0.01, 1), (0.01, 0), (-0.01, 8)])
def test_a_spread_is_known_from_two_or_more(sd, count):
    with pytest.raises(ValueError, match="known from two or more"):
        KnownSpread(sd, count)


@pytest.mark.parametrize("cells", [2, 4])
def test_three_builds_cover_as_often_as_they_say_with_builds_as_they_were_seen(cells):
    """What is known is itself found from eight builds drawn at random, each time other ones."""
    random = np.random.default_rng(7)
    held = narrower = 0
    runs = 400
    for run in range(runs):
        known = KnownSpread(math.sqrt(cells) * random.choice(SEEN, 8).std(ddof=1), 8)
        moves = random.choice(SEEN, (3, cells)) @ np.resize([1.0, -1.0], cells)
        found, alone = judged(moves, known, seed=run), judged(moves, seed=run)
        held += found.low <= 1.0 <= found.high
        narrower += found.half_width < alone.half_width
    assert held >= 0.93 * runs
    assert narrower >= 0.5 * runs


def test_cells_that_are_built_apart_move_a_ratio_apart() -> None:
    found = of_a_contrast([KnownSpread(0.03, 8), KnownSpread(0.04, 12)])
    assert (found.sd, found.count) == (pytest.approx(0.05), 8)
    assert of_a_contrast([]) is None

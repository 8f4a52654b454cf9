"""The estimate against numbers worked out by hand, its edges, and what it refuses."""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pandas
import pytest

from harness.stats import Verdict, coursework_factor, estimate
from harness.stats.interaction import for_others, only_others_decide
from harness.stats.intervals import mean_interval
from harness.stats.prior import KnownSpread
from harness.stats.roles import ROLES


def blocks_with(factors: list[float]) -> np.ndarray:
    """Blocks of a quartet with arch gain 2 and hw gain 3 whose factor in block b is factors[b]."""
    return np.array([[100.0, 200.0, 300.0, 600.0 * factor] for factor in factors])


def steady(factor: float, count: int) -> list[float]:
    """Return factors that differ by less than any clock resolves, in an order without a trend."""
    return list(factor * (1 + 1e-7 * np.random.default_rng(5).standard_normal(count)))


def test_the_factor_is_the_geometric_mean_over_blocks() -> None:
    found = estimate(blocks_with([0.5, 0.7, 0.9]))
    assert found.factor == pytest.approx((0.5 * 0.7 * 0.9) ** (1 / 3))
    assert found.gains.arch == pytest.approx(2)
    assert found.gains.hw == pytest.approx(3)
    assert found.gains.expected == pytest.approx(6)
    assert found.gains.combined == pytest.approx(6 * found.factor)
    assert found.blocks == 3


def test_equal_restarts_give_the_t_interval_of_their_means() -> None:
    """Four restarts far apart and quiet inside: mean 0, sd of the means sqrt(0.2/3), t(0.975, 3) = 3.182446."""
    means = [-0.3, -0.1, 0.1, 0.3]
    logs = [mean + wobble for mean in means for wobble in (-1e-4, 1e-4, 0.0)]
    found = estimate(blocks_with([math.exp(x) for x in logs]), groups=np.repeat(["a", "b", "c", "d"], 3))
    expected = 3.182446 * math.sqrt(0.2 / 3) / 2
    assert found.half_width == pytest.approx(expected, rel=1e-5)
    assert found.low == pytest.approx(math.exp(-expected), rel=1e-5)
    assert found.high == pytest.approx(math.exp(expected), rel=1e-5)
    assert found.effective_replicates == pytest.approx(4)


def test_noise_inside_restarts_counts_even_if_their_means_agree_by_luck() -> None:
    logs = [0.2, -0.2, 0.1, -0.1, 0.3, -0.3] * 2
    found = estimate(blocks_with([math.exp(x) for x in logs]), groups=[0] * 6 + [1] * 6)
    assert found.half_width > 0.1


def test_one_block_per_restart_is_a_plain_t_interval() -> None:
    """Mean 0.02, sd 0.0158114, t(0.975, 4) = 2.776445."""
    logs = [0.0, 0.01, 0.02, 0.03, 0.04]
    found = estimate(blocks_with([math.exp(x) for x in logs]), groups=range(5))
    assert found.half_width == pytest.approx(2.776445 * 0.0158114 / math.sqrt(5), rel=1e-4)


def test_builds_are_a_level_above_restarts() -> None:
    """Two builds at -0.1 and +0.1: sd of the means 0.141421, t(0.975, 1) = 12.7062."""
    logs = [-0.1] * 6 + [0.1] * 6
    blocks = blocks_with([math.exp(x) for x in logs])
    restarts, builds = [0, 0, 0, 1, 1, 1] * 2, [0] * 6 + [1] * 6  # restarts are numbered anew in each build
    found = estimate(blocks, groups=restarts, builds=builds)
    assert (found.restarts, found.builds) == (4, 2)
    assert found.half_width == pytest.approx(12.7062 * 0.141421 / math.sqrt(2), rel=1e-4)
    assert estimate(blocks, groups=restarts).builds == 1


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_blocks_say_nothing(count: int) -> None:
    found = estimate(blocks_with([3.0] * count))
    assert found.factor == pytest.approx(3)
    assert (found.low, found.high) == (0.0, math.inf)
    assert found.verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(("factor", "expected"), [(1.0, "independent"), (1.2, "amplify"), (0.8, "conflict")])
def test_a_steady_series_is_decided_from_five_blocks_on(factor: float, expected: str) -> None:
    assert estimate(blocks_with(steady(factor, 4))).verdict == "inconclusive"
    assert "at least 5" in estimate(blocks_with(steady(factor, 4))).reason
    found = estimate(blocks_with(steady(factor, 5)))
    assert found.verdict == expected
    assert found.factor == pytest.approx(factor)


def test_no_interval_is_narrower_than_what_can_be_resolved() -> None:
    found = estimate(blocks_with(steady(1.0, 40)))
    assert found.half_width == 1e-4
    assert (found.low, found.high) == (pytest.approx(math.exp(-1e-4)), pytest.approx(math.exp(1e-4)))


@pytest.mark.parametrize("throughput", [7.0, 100.0])
def test_identical_blocks_show_a_clock_that_is_too_coarse_and_decide_nothing(throughput: float) -> None:
    found = estimate(np.full((20, 4), throughput))
    assert (found.verdict, found.p_value) == ("inconclusive", 1.0)
    assert found.reason == "all 20 blocks are identical: the clock is too coarse to show their noise"


def test_a_host_bound_cell_needs_eight_restarts() -> None:
    blocks = blocks_with([2.0, 2.01] * 12)
    assert estimate(blocks).verdict == "amplify"
    alone = estimate(blocks, host_bound=True)
    assert alone.verdict == "inconclusive"
    assert alone.p_value == 1.0
    assert "host-bound" in alone.reason and "8" in alone.reason
    assert estimate(blocks, groups=np.arange(24) % 7, host_bound=True).verdict == "inconclusive"
    assert estimate(blocks, groups=np.arange(24) // 3, host_bound=True).verdict == "amplify"


def test_restarts_count_equally_however_many_blocks_they_have() -> None:
    found = estimate(blocks_with([1.0, 1.0, 1.0, 2.0]), groups=[0, 0, 0, 1])
    assert found.factor == pytest.approx(2**0.5)
    assert found.gains.combined == pytest.approx(6 * 2**0.5)
    assert found.effective_replicates == pytest.approx(2)


def test_builds_count_equally_and_the_restarts_of_a_build_do() -> None:
    logs = [0.3] + [0.1] * 2 + [0.2] * 5  # a build of one restart, and one of two
    found = estimate(blocks_with([math.exp(x) for x in logs]), groups=[0] + [1] * 2 + [2] * 5, builds=[0] + [1] * 7)
    assert math.log(found.factor) == pytest.approx((0.3 + (0.1 + 0.2) / 2) / 2)


@pytest.mark.parametrize("sizes", [(60, 5, 5), (188, 10, 10, 10, 19, 20, 18, 10)])
def test_unequal_restarts_cover_and_decide(sizes: tuple[int, ...]) -> None:
    """Each restart has a mode of its own, sd 1%, and white noise of 3% a block, around a factor of 1.2."""
    rng = np.random.default_rng(8)
    logs = np.concatenate([rng.normal(0, 0.01, (150, 1)) + rng.normal(0, 0.03, (150, n)) for n in sizes], axis=1)
    found = mean_interval(logs, np.repeat(np.arange(len(sizes)), sizes))
    half_width = found.half_width(0.95)
    assert np.mean(np.abs(found.mean) <= half_width) >= 0.92
    assert np.mean(math.log(1.2) + found.mean - half_width > math.log(1.05)) >= 0.9


def test_who_looks_until_it_is_decided_needs_more_than_the_reported_interval() -> None:
    noise = 0.02 * np.random.default_rng(11).standard_normal(60)
    noise -= noise.mean()
    widths = [estimate(blocks_with(list(np.exp(noise))), level=level).half_width for level in (0.95, 0.99)]
    blocks = blocks_with(list(np.exp(noise + math.log(1.05) + np.mean(widths))))
    found, strict = estimate(blocks), estimate(blocks, decision_level=0.99)
    assert (found.verdict, strict.verdict) == ("amplify", "inconclusive")
    assert (found.low, found.high) == (strict.low, strict.high)
    assert "not at 0.99" in strict.reason
    assert estimate(blocks, level=0.99, decision_level=0.95).reason == estimate(blocks, level=0.99).reason
    with pytest.raises(ValueError, match=r"decision_level must be between 0 and 1, got 1\.5"):
        estimate(blocks, decision_level=1.5)


def test_a_run_with_a_step_decides_nothing_and_says_why() -> None:
    noise = 0.01 * np.random.default_rng(3).standard_normal(60)
    noise[30:] += 0.08
    found = estimate(blocks_with(list(1.3 * np.exp(noise))))
    assert (found.verdict, found.p_value) == ("inconclusive", 1.0)
    assert found.reason == found.unstationary
    assert "between the halves" in found.reason and "%" in found.reason


@pytest.mark.parametrize(("factor", "verdict"), [(1.07, "amplify"), (1.0, "independent"), (1.052, "inconclusive")])
def test_a_change_decides_nothing_that_it_could_overturn_and_no_more(factor: float, verdict: str) -> None:
    """On a GPU, blocks scatter by 0.03% and a warming of 0.1% is plain to see, and far from any margin."""
    noise = 0.0003 * np.random.default_rng(3).standard_normal(40)
    noise[20:] += 0.001
    found = estimate(blocks_with(list(factor * np.exp(noise))), decision_level=0.99)
    assert found.unstationary.startswith("not stationary: the factor changed by 0.1")
    assert found.verdict == verdict
    assert (found.reason == found.unstationary) == (verdict == "inconclusive")
    steady_run = estimate(blocks_with(list(factor * np.exp(noise - noise.mean()))[:20]), decision_level=0.99)
    assert steady_run.unstationary == ""
    assert found.p_value >= steady_run.p_value


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        (np.ones((3, 3)), r"\(3, 3\)"),
        (np.ones(4), r"\(4,\)"),
        (np.empty((0, 4)), r"\(0, 4\)"),
        ([[1, 1, 1, 1], [1, math.nan, 1, 1]], "nan in block 1, column 1"),
        ([[1, 1, 1, math.inf]], "inf in block 0, column 3"),
        ([[1, 1, 0, 1]], "0.0 in block 0, column 2"),
        ([[-2, 1, 1, 1]], "-2.0 in block 0, column 0"),
    ],
)
def test_bad_blocks_are_named(blocks: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        estimate(blocks)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options", [{"margin": 0}, {"margin": 1}, {"level": 0}, {"level": 1}, {"groups": [0, 1]}, {"builds": [[0]] * 6}]
)
def test_bad_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        estimate(np.ones((6, 4)), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("factors", "reason"),
    [
        (steady(1.2, 20), "all of the interval is above 1.05"),
        (steady(0.8, 20), "all of the interval is below 0.95"),
        (steady(1.0, 20), "all of the interval is within 0.95 and 1.05"),
        ([1.04, 1.06] * 10, "the interval contains 1.05: measure longer"),
        ([0.94, 0.96] * 10, "the interval contains 0.95: measure longer"),
        ([0.7, 1.4] * 10, "the interval contains 0.95 and 1.05: measure longer"),
        ([1.2] * 4, "4 blocks, a verdict needs at least 5"),
    ],
)
def test_the_reason_says_where_the_interval_lies(factors: list[float], reason: str) -> None:
    assert estimate(blocks_with(factors)).reason == reason


def test_the_margin_is_the_callers_and_is_kept() -> None:
    found = estimate(blocks_with(steady(1.2, 20)), margin=0.25)
    assert (found.verdict, found.margin, found.level) == ("independent", 0.25, 0.95)
    assert found.reason == "all of the interval is within 0.75 and 1.25"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": 1.0}, "level must be between 0 and 1, got 1.0"),
        ({"groups": [0, 1]}, r"groups must be one label a block, \[5\], got shape \(2,\)"),
        ({"builds": [0, 1]}, r"builds must be one label a block, \[5\], got shape \(2,\)"),
    ],
)
def test_what_is_wrong_is_named(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        estimate(blocks_with([1.0] * 5), **options)


def test_restarts_of_different_builds_are_different_restarts() -> None:
    blocks = blocks_with([1.0, 1.01] * 6)
    builds = [0] * 4 + [1] * 4 + [2] * 4
    assert estimate(blocks, groups=[0, 0, 1, 1] * 3, builds=builds).restarts == 6
    assert estimate(blocks, groups=[0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3], builds=builds).restarts == 6


def test_of_one_restart_the_interval_holds_what_others_would_give() -> None:
    """Of 2,000 sets of processes, whose sd was estimated from ten others, 95% of the intervals hold the true factor."""
    random = np.random.default_rng(7)
    blocks = estimate(blocks_with(steady(1.0, 20)))
    held, narrow = 0, 0
    for moved in random.normal(0, 0.02, 2000):
        log_factor = moved + random.normal(0, 0.005)  # the blocks' own noise, whose interval is 1.96 x 0.5%
        found = replace(blocks, factor=math.exp(log_factor), half_width=1.96 * 0.005)
        wider = for_others(found, KnownSpread(random.normal(0, 0.02, 10).std(ddof=1), 10), "restart")
        assert math.log(wider.high / wider.low) / 2 == pytest.approx(wider.half_width)
        held += wider.low <= 1 <= wider.high
        narrow += abs(log_factor) <= found.half_width
    assert 0.93 <= held / 2000 <= 0.97
    assert narrow / 2000 < 0.5


SPREAD = KnownSpread(0.022, 10)  # whose interval is 5% to either side


@pytest.mark.parametrize(
    ("factor", "said", "left"),
    [(0.92, "conflict", "inconclusive"), (0.80, "conflict", "conflict"), (1.0, "independent", "inconclusive"),
     (1.30, "amplify", "amplify"), (1.08, "amplify", "inconclusive")],
)  # fmt: skip
@pytest.mark.parametrize(("only", "others"), [("restart", "processes"), ("build", "builds")])
def test_of_one_only_what_others_can_not_overturn_is_decided(factor, said, left, only, others):
    quiet = replace(estimate(blocks_with(steady(factor, 20))), half_width=0.005, p_value=1e-9)
    assert quiet.verdict == said
    found = for_others(quiet, SPREAD, only)
    assert found.verdict == left
    assert only_others_decide(quiet, SPREAD) == (left == "inconclusive")
    if left == "inconclusive":
        assert found.reason.startswith(f"of one {only}: other {others} move the factor by 2.2% (sd)")
        assert found.reason.endswith(f"measure several {only}s")
        assert 0.05 < found.p_value <= 1.0
        return
    assert only not in found.reason
    distance = abs(math.log(factor) - (math.log(0.95) if factor < 1 else math.log(1.05)))
    at_that_level = math.hypot(
        0.005 / 1.96 * NormalDist().inv_cdf(1 - found.p_value / 2), SPREAD.half_width(1 - found.p_value)
    )
    assert at_that_level == pytest.approx(distance, rel=1e-3)


def test_a_wide_margin_is_decided_by_one_restart_too() -> None:
    assert for_others(estimate(blocks_with(steady(1.0, 20)), margin=0.1), SPREAD, "restart").verdict == "independent"


def test_of_one_restart_what_blocks_do_not_decide_stays_open_for_its_own_reason() -> None:
    few = for_others(estimate(blocks_with(steady(0.5, 3))), SPREAD, "restart")
    assert few.reason.startswith("3 blocks") and few.p_value == 1.0
    noisy = [0.80, 0.95, 0.85, 0.99, 0.78, 0.97, 0.84, 0.93]
    open_still = estimate(blocks_with(noisy))
    found = for_others(open_still, SPREAD, "restart")
    assert found.verdict == open_still.verdict == "inconclusive"
    assert found.p_value >= open_still.p_value
    assert found.reason.endswith("measure longer")  # at 0.885 a narrow interval would decide


def test_the_names_of_columns_count_in_any_order() -> None:
    blocks = blocks_with(steady(0.8, 12))
    frame = pandas.DataFrame(blocks, columns=list(ROLES))
    expected = estimate(blocks)
    mixed = frame[["combined", "hw", "arch", "baseline"]]
    assert expected.factor == pytest.approx(0.8)
    for named in (mixed, dict(mixed), mixed.to_records(index=False)):
        found = estimate(named)  # type: ignore[arg-type]
        assert (found.factor, found.low) == pytest.approx((expected.factor, expected.low))
        assert found.gains.hw == pytest.approx(3)
    means = frame.mean()
    assert coursework_factor(means[::-1]) == pytest.approx(coursework_factor(list(means)))


@pytest.mark.parametrize(
    "names", [["baseline", "arch", "hw", "HW"], ["baseline", "arch", "hw"], [0, 1, 2, 3], [*ROLES, "restart"],
              ["baseline", "arch", "arch", "combined"]]
)  # fmt: skip
def test_other_names_of_columns_are_refused(names: list[object]) -> None:
    table = pandas.DataFrame(np.ones((6, len(names))), columns=names)
    with pytest.raises(ValueError, match="names must be baseline, arch, hw, combined, each once and no other, got"):
        estimate(table)


def test_labels_in_another_order_than_the_blocks_are_refused() -> None:
    frame = pandas.DataFrame(blocks_with(steady(0.8, 12)), columns=list(ROLES))
    labels = pandas.Series(np.repeat([0, 1, 2], 4))
    expected = estimate(frame.to_numpy(), groups=list(labels))
    assert estimate(frame, groups=labels).low == pytest.approx(expected.low)
    for name in ("groups", "builds"):
        with pytest.raises(ValueError, match=f"{name} and blocks have other indices"):
            estimate(frame, **{name: labels[::-1]})

"""The log-linear model finds what was put in, says what it can't tell, and is no narrower than its quartets."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from scipy import stats

from harness.stats.factorial import LogLinear, MeasuredQuartet, complete_designs, effects, predict, subsets

TRUE = {("a",): 1.5, ("b",): 0.8, ("x",): 2.0, ("y",): 1.2, ("a", "x"): 0.7, ("a", "b", "x"): 1.3, ("x", "y"): 1.1}
NONE = frozenset()


def log_gain(cell):
    return sum(math.log(value) for term, value in TRUE.items() if set(term) <= cell)


def quartet(arch, hw, noise=0.0, seed=0, half_width=0.01):
    cells = (NONE, frozenset(arch), frozenset(hw), frozenset(arch) | frozenset(hw))
    rng = np.random.default_rng(seed)
    level = rng.normal(5, 1)  # every quartet has its own
    return MeasuredQuartet(cells, tuple(level + log_gain(c) + noise * rng.normal() for c in cells), half_width)


def grid(archs, hws, **options):
    return [quartet(a, h, seed=number, **options) for number, (a, h) in enumerate(product(archs, hws))]


FULL = grid(("a", "b", "ab"), ("x", "y", "xy"))


def test_every_effect_that_was_put_in_comes_out_and_all_others_are_one():
    found, inseparable = effects(LogLinear(FULL, 0.95))
    assert inseparable == ()
    for effect in found:
        assert effect.ratio.value == pytest.approx(TRUE.get(effect.techniques, 1.0)), effect
        assert effect.ratio.low <= effect.ratio.value <= effect.ratio.high
    assert {effect.techniques for effect in found} >= set(TRUE)


def test_for_one_quartet_the_pairs_effect_is_its_factor_with_its_own_interval():
    (one,) = grid(("a",), ("x",), half_width=0.03)
    pair = LogLinear([one], 0.95).effect(frozenset("ax"))
    assert pair.value == pytest.approx(0.7)
    assert pair.low == pytest.approx(0.7 * math.exp(-0.03)) and pair.high == pytest.approx(0.7 * math.exp(0.03))
    (design,) = complete_designs([one])
    averaged = next(effect for effect in design.effects if effect.techniques == ("a", "x"))
    assert averaged.ratio.value == pytest.approx(0.7)
    assert averaged.ratio.high == pytest.approx(0.7 * math.exp(0.03))


def test_shares_of_a_complete_design_sum_to_one():
    (design,) = complete_designs(FULL)
    assert design.techniques == ("a", "b", "x", "y")
    assert sum(effect.share for effect in design.effects) == pytest.approx(1)
    assert len(design.effects) == 15


def test_a_main_effect_is_the_mean_over_the_settings_of_the_others():
    (design,) = complete_designs(FULL)
    found = next(effect.ratio.value for effect in design.effects if effect.techniques == ("a",))
    gains = [log_gain(cell | {"a"}) - log_gain(cell) for cell in subsets(frozenset("bxy"))]
    assert math.log(found) == pytest.approx(np.mean(gains))


def test_an_incomplete_grid_has_no_effect_of_what_was_never_on_together():
    some = grid(("a", "b"), ("x", "y"))
    found, _ = effects(LogLinear(some, 0.95))
    assert {effect.techniques for effect in found} == {
        ("a",), ("b",), ("x",), ("y",), ("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")
    }  # fmt: skip
    assert {design.techniques for design in complete_designs(some)} == {("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")}


def test_techniques_that_were_only_ever_on_together_are_not_told_apart():
    found, inseparable = effects(LogLinear(grid(("ab",), ("x",)), 0.95))
    assert {effect.techniques for effect in found} == {("x",)}
    assert {("a",), ("b",), ("a", "b")} <= set(inseparable)


def test_a_cell_that_was_not_run_is_predicted_with_what_is_assumed():
    (found,) = predict(grid(("a", "b"), ("x",)), [frozenset("abx")], 0.95)
    assert found.measured is None
    assert found.predicted.value == pytest.approx(1.5 * 0.8 * 2.0 * 0.7)
    assert found.assumed == (("a", "b"),)


def test_a_measured_cell_is_predicted_from_its_parts_alone():
    """The factor of a pair that was measured does not enter its own prediction, nor does anything else that is on."""
    found = {one.techniques: one for one in predict(FULL, [frozenset("ax"), frozenset("abx")], 0.95)}
    assert found["a", "x"].measured == pytest.approx(1.5 * 2 * 0.7)
    assert found["a", "x"].predicted.value == pytest.approx(1.5 * 2)
    assert found["a", "b", "x"].measured == pytest.approx(1.5 * 0.8 * 2 * 0.7 * 1.3)
    assert found["a", "b", "x"].predicted.value == pytest.approx(1.5 * 0.8 * 2 * 0.7)


def test_what_no_quartet_holds_is_not_predicted():
    for cell in ("bx", "by"):  # with a part that was measured, and without any
        assert predict(grid(("a",), ("x",)), [frozenset(cell)], 0.95) == ()


def test_a_cell_whose_parts_were_only_ever_on_together_is_not_predicted():
    some = grid(("ab", "bc"), ("x",))  # ab and bc both hold b, whose own gain nobody knows
    assert predict(some, [frozenset("abc")], 0.95) == ()
    assert predict([*some, *grid(("b",), ("x",))], [frozenset("abc")], 0.95) != ()


def test_with_too_many_techniques_no_design_is_looked_for():
    names = "abcdefghij"
    assert complete_designs(grid(names[:9], ("x",)))
    assert complete_designs(grid(names, ("x",))) == ()


def test_quartets_that_disagree_widen_the_interval_beyond_their_own():
    quiet = grid(("a", "b", "ab"), ("x", "y", "xy"), noise=0.0, half_width=1e-6)
    noisy = grid(("a", "b", "ab"), ("x", "y", "xy"), noise=0.1, half_width=1e-6)
    widths = []
    for quartets in (quiet, noisy):
        found = LogLinear(quartets, 0.95).gain(frozenset("ax"))
        widths.append(math.log(found.high / found.low))
    assert widths[0] < 1e-3 and widths[1] > 0.1


def test_intervals_of_the_model_cover_the_truth():
    """Cells with independent noise; each quartet's half-width is the right one for its L (1.96 x 2 x sd)."""
    covered, total = 0, 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        quartets = []
        for arch, hw in product(("a", "b"), ("x", "y")):
            clean = quartet(arch, hw, seed=seed)
            logs = tuple(value + 0.02 * rng.normal() for value in clean.log_throughput)
            quartets.append(MeasuredQuartet(clean.cells, logs, 1.96 * 2 * 0.02))
        for effect in effects(LogLinear(quartets, 0.95))[0]:
            covered += effect.ratio.low <= TRUE.get(effect.techniques, 1.0) <= effect.ratio.high
            total += 1
    assert covered / total > 0.95


def test_the_fit_is_weighted_least_squares_with_a_level_for_each_quartet():
    """Worked out another way: a column a quartet instead of centring, rows by the square roots of their weights."""
    widths = (0.01, 0.02, 0.04, 0.01, 0.03, 0.02)
    settings = product(("a", "b", "ab"), ("x", "y"))
    quartets = [
        MeasuredQuartet(one.cells, one.log_throughput, width * 1e-6)
        for width, one in zip(
            widths, [quartet(a, h, noise=0.1, seed=i) for i, (a, h) in enumerate(settings)], strict=True
        )
    ]
    model = LogLinear(quartets, 0.9)
    rows = [(number, cell) for number, one in enumerate(quartets) for cell in one.cells]
    design = [
        [float(number == other) for other in range(6)] + [float(term <= cell) for term in model.terms]
        for number, cell in rows
    ]
    y = np.array([value for one in quartets for value in one.log_throughput])
    weight = np.repeat([(0.04 / width) ** 2 for width in widths], 4)
    scaled = np.array(design) * np.sqrt(weight)[:, None]
    solution, _, rank, _ = np.linalg.lstsq(scaled, y * np.sqrt(weight), rcond=None)
    residuals = float(weight @ (y - np.array(design) @ solution) ** 2)
    variance = residuals / (len(y) - rank) * np.linalg.pinv(scaled.T @ scaled)
    t = stats.t.ppf(0.95, len(y) - rank)

    def quartet_mean(values):
        return np.repeat(values.reshape(6, 4).mean(axis=1), 4)

    assert model.explained == pytest.approx(1 - residuals / float(weight @ (y - quartet_mean(y)) ** 2))
    for place, term in enumerate(model.terms, start=6):
        found = model.effect(term)
        assert math.log(found.value) == pytest.approx(solution[place])
        assert math.log(found.high / found.value) == pytest.approx(t * math.sqrt(variance[place, place]))


def test_all_of_the_variation_is_explained_where_there_is_none():
    cells = (NONE, frozenset("a"), frozenset("x"), frozenset("ax"))
    still = MeasuredQuartet(cells, (5.0, 5.0, 5.0, 5.0), 0.01)
    assert LogLinear([still], 0.95).explained == 1
    (design,) = complete_designs([still])
    assert [effect.share for effect in design.effects] == [0, 0, 0]


def test_averaged_effects_of_one_to_three_techniques_by_their_definitions():
    (design,) = complete_designs(FULL)
    found = {effect.techniques: effect for effect in design.effects}
    assert found["a", "b", "x"].ratio.value == pytest.approx(1.3)
    assert found["x", "y"].ratio.value == pytest.approx(1.1)
    assert found["a", "x"].ratio.value == pytest.approx(0.7 * math.sqrt(1.3))  # with b off and on
    shares = [effect.share for effect in design.effects]
    assert shares == sorted(shares, reverse=True)
    values = np.array([log_gain(cell) for cell in subsets(frozenset("abxy"))])
    total = float(np.sum((values - values.mean()) ** 2))
    assert found["a", "b", "x"].share == pytest.approx(16 * (math.log(1.3) / 8) ** 2 / total)


def test_a_design_that_was_measured_twice_is_known_better():
    once, twice = grid(("a",), ("x",), half_width=0.03), grid(("a", "a"), ("x",), half_width=0.03)
    for quartets, width in ((once, 0.03), (twice, 0.03 / math.sqrt(2))):
        (design,) = complete_designs(quartets)
        pair = next(effect for effect in design.effects if effect.techniques == ("a", "x"))
        assert math.log(pair.ratio.high / pair.ratio.value) == pytest.approx(width)
        single = next(effect for effect in design.effects if effect.techniques == ("a",))
        assert math.log(single.ratio.high / single.ratio.value) == pytest.approx(width / 2)


def test_subsets_are_each_there_once():
    assert len(subsets(frozenset("abc"))) == len(set(subsets(frozenset("abc")))) == 8


def test_a_contrast_is_as_wide_as_its_weights_on_each_quartet_say():
    """Against weights found by moving each measured number: in quartets that share cells and are unevenly known."""
    quartets = [
        quartet(a, h, seed=number, half_width=0.01 * (1 + number))
        for number, (a, h) in enumerate(product(("a", "b", "ab"), ("x",)))
    ]

    def logs_of(effects_of):
        (design,) = complete_designs(effects_of)
        return {effect.techniques: math.log(effect.ratio.value) for effect in design.effects}

    (design,) = complete_designs(quartets)
    before = logs_of(quartets)
    for effect in design.effects:
        squares = 0.0
        for number, measured in enumerate(quartets):
            weights = []
            for row in range(4):
                moved = list(measured.log_throughput)
                moved[row] += 1e-3
                others = [*quartets]
                others[number] = MeasuredQuartet(measured.cells, tuple(moved), measured.half_width)
                weights.append((logs_of(others)[effect.techniques] - before[effect.techniques]) / 1e-3)
            squares += (max(map(abs, weights)) * measured.half_width) ** 2
        assert math.log(effect.ratio.high / effect.ratio.value) == pytest.approx(math.sqrt(squares), rel=1e-6)


def test_terms_are_ordered_by_size_and_name_and_end_at_the_order():
    terms = [tuple(sorted(term)) for term in LogLinear(FULL, 0.95, order=2).terms]
    assert terms == sorted(terms, key=lambda term: (len(term), term)) and max(map(len, terms)) == 2


def test_small_effects_are_explained_as_large_ones_are():
    cells = (NONE, frozenset("a"), frozenset("x"), frozenset("ax"))
    small = MeasuredQuartet(cells, (0.0, 0.01, 0.02, 0.03), 0.01)
    other = MeasuredQuartet(cells, (0.0, 0.02, 0.01, 0.03), 0.01)
    assert 0.5 < LogLinear([small, other], 0.95).explained < 0.95
    (design,) = complete_designs([small])
    assert sum(effect.share for effect in design.effects) == pytest.approx(1)


def test_quartets_that_are_known_exactly_count_alike():
    exact = grid(("a", "a"), ("x",), half_width=0.0)
    (design,) = complete_designs(exact)
    assert all(math.isfinite(effect.ratio.value) and effect.ratio.low == effect.ratio.high for effect in design.effects)

"""The sentences say what the numbers say, and how little they know."""

from __future__ import annotations

import math

import pytest

from harness.engines.profiling import UNKNOWN, Layer, profile_of
from harness.results.why import WITHHELD, ceiling_shares, clocks_mhz, details, explain, part_times, unpaired_parts
from harness.stats.roles import ROLES


def profiles(unknown=0.0, **times):
    out = {}
    for role, (stem, head) in times.items():
        layers = [Layer("k", part, ms) for part, ms in (("stem", stem), ("head", head), (UNKNOWN, unknown))]
        out[role] = profile_of("a profiler", layers, stem + head + unknown)
    return out


CONFLICT = {
    "baseline": (8, 8),
    "arch": (4, 8),
    "hw": (4, 8),
    "combined": (4, 8),
}  # in the stem, the second gains nothing


def speeds(times):
    return {role: 1e3 / sum(pair) for role, pair in times.items()}


def test_the_part_that_interacts_is_named_with_its_size():
    why = explain(profiles(**CONFLICT), speeds(CONFLICT), None, "wall", 1)
    assert why.sentences[0].startswith("The factor of 0.750 comes mostly from stem")
    assert math.exp(why.stagewise.log_factor) == pytest.approx(12 * 12 / (16 * 12))


def test_an_open_verdict_is_not_explained_as_if_it_stood():
    why = explain(profiles(**CONFLICT), speeds(CONFLICT), None, "wall", 1, established=False)
    assert why.sentences[0].startswith("No verdict is established; as measured, ")


def test_a_factor_whose_interval_holds_one_is_not_explained():
    why = explain(profiles(**CONFLICT), speeds(CONFLICT), None, "wall", 1, half_width=0.3)
    assert why.sentences[0] == WITHHELD and why.sentences[1].startswith("Kernels or nodes a batch")
    assert not any("comes mostly from" in sentence for sentence in why.sentences)


def test_no_cause_is_named_that_is_smaller_than_the_half_width():
    times = {"baseline": (8, 8), "arch": (4, 8), "hw": (4, 7.9), "combined": (4, 8)}
    free = explain(profiles(**times), speeds(times), None, "wall", 1)
    held = explain(profiles(**times), speeds(times), None, "wall", 1, half_width=0.15)
    assert "stem" in held.sentences[0] and "parts scaling differently" not in held.sentences[0]
    assert "scaling differently" in free.sentences[0]
    none = explain(profiles(**times), speeds(times), None, "wall", 1, half_width=0.25)
    assert "comes from no part by more than its interval is wide" in none.sentences[0]
    clocks = dict(zip(ROLES, (1980, 1980, 1980, 1900), strict=True))
    told = [
        any("clocks differ" in sentence for sentence in explain(
            profiles(**times), speeds(times), None, "wall", 1, half_width=half, clocks_mhz=clocks).sentences)
        for half in (0.01, 0.15)
    ]  # fmt: skip
    assert told == [True, False]


def test_little_attribution_is_said():
    why = explain(profiles(unknown=30, **CONFLICT), speeds(CONFLICT), None, "wall", 1)
    assert why.incomplete == ROLES
    assert "Less than 90%" in why.sentences[-1]


def named(role, parts):
    return {role: profile_of("a profiler", [Layer("k", part, ms) for part, ms in parts.items()], sum(parts.values()))}


def test_parts_that_only_one_engine_names_explain_nothing():
    """An eager `encoder` beside a compiler's layers once made all of a factor parts that scale differently."""
    four = named("baseline", {"stem": 1, "encoder": 20}) | named("arch", {"stem": 1, "encoder": 10})
    four |= named("hw", {"stem": 0.5, "layer 1": 1, "layer 2": 1})
    four |= named("combined", {"stem": 0.5, "layer 1": 0.8, "layer 2": 0.6, "spanning": 0.1})
    speed = {role: 1e3 / profile.work_ms for role, profile in four.items()}
    why = explain(four, speed, speed, "device", 1)
    assert "unattributed time" in why.sentences[0]
    assert why.sentences[-1].startswith("Only some engines report ") and "encoder" in why.sentences[-1]
    assert part_times(why)["encoder"]["baseline"] == pytest.approx(20)  # what the profilers said is kept
    # of the lump 20 -> 10 and 2 -> 1.5, where 1 was to be expected; the stem multiplies
    assert math.exp(why.stagewise.log_factor - why.stagewise.amdahl) == pytest.approx(1.5 / 2.0)


def test_a_cell_without_names_explains_nothing():
    four = named("baseline", {"stem": 1, "body": 20}) | named("arch", {"stem": 1, "body": 10})
    four |= named("hw", {UNKNOWN: 3}) | named("combined", {"stem": 1, "body": 1})
    speed = {role: 1e3 / profile.work_ms for role, profile in four.items()}
    why = explain(four, speed, speed, "device", 1)
    assert "unattributed time" in why.sentences[0]
    assert why.stagewise.amdahl == pytest.approx(0)


def test_a_part_that_a_technique_takes_away_or_adds_is_no_other_name():
    four = named("baseline", {"stem": 1, "one": 9, "two": 9}) | named("arch", {"stem": 1, "one": 9, "exit head": 3})
    four |= named("hw", {"stem": 1, "one": 1, "two": 1}) | named("combined", {"stem": 1, "one": 1, "exit head": 0.3})
    assert unpaired_parts(four) == ()


def test_a_small_part_that_was_fused_away_changes_nothing():
    four = named("baseline", {"stem": 1, "body": 20, "tail": 0.1}) | named("arch", {"stem": 1, "body": 10, "tail": 0.1})
    four |= named("hw", {"stem": 1, "body": 2}) | named("combined", {"stem": 1, "body": 1.5})
    speed = {role: 1e3 / profile.work_ms for role, profile in four.items()}
    why = explain(four, speed, speed, "device", 1)
    assert "body" in why.sentences[0] and why.incomplete == ()
    assert unpaired_parts(four) == () and not any("Only some engines" in one for one in why.sentences)


def test_profiles_are_scaled_to_what_was_timed():
    slow = {role: speed / 10 for role, speed in speeds(CONFLICT).items()}
    why = explain(profiles(**CONFLICT), slow, slow, "device", 1)
    assert sum(times["baseline"] for times in part_times(why).values()) == pytest.approx(160)


def test_without_all_four_cells_there_is_no_why():
    three = profiles(**{role: CONFLICT[role] for role in ROLES[:3]})
    assert explain(three, speeds(CONFLICT), None, "wall", 1) is None


ROOF = {"baseline": (0.21, False), "arch": (0.18, True), "hw": (0.53, True), "combined": (1.04, True)}


def test_where_the_cells_stand_under_the_ceilings_is_said_where_all_four_are_known():
    why = explain(profiles(**CONFLICT), speeds(CONFLICT), None, "wall", 1, ceiling_shares=ROOF)
    assert why.sentences[-1] == (
        "Achieved share of the nearer ceiling: baseline 21% of compute, arch 18% of memory, hw 53% of memory, "
        "combined 104% of memory."
    )
    some = {role: ROOF[role] for role in ("baseline", "hw")}
    without = explain(profiles(**CONFLICT), speeds(CONFLICT), None, "wall", 1, ceiling_shares=some)
    assert not any("ceiling" in one for one in without.sentences)


def test_standings_are_read_from_the_row_by_role():
    row = {"baseline/roofline/share": 0.2, "baseline/roofline/memory_bound": 0.0, "hw/roofline/gflop_per_image": 1.0}
    assert ceiling_shares(row, {"baseline": "baseline/", "hw": "hw/"}) == {"baseline": (0.2, False)}


def test_clocks_that_differ_are_told_with_what_they_make_of_the_factor_at_most():
    """As in a committed study: the accelerated cells at the power limit, the others below it."""
    clocks = {"baseline": 1980.0, "arch": 1980.0, "hw": 1904.0, "combined": 1960.0}
    why = explain(profiles(**CONFLICT), speeds(CONFLICT), None, "wall", 1, clocks_mhz=clocks)
    assert why.clock_factor == pytest.approx(1960 / 1904)
    told = (
        "The cells' clocks differ (MHz: baseline 1980, arch 1980, hw 1904, combined 1960): up to x 1.029 of the factor"
    )
    assert [text for text in why.sentences if text.startswith(told)]
    assert details(why)["log_clock"] == pytest.approx(math.log(1960 / 1904))


def test_the_same_clocks_and_unknown_ones_explain_nothing():
    same = explain(profiles(**CONFLICT), speeds(CONFLICT), None, "wall", 1, clocks_mhz=dict.fromkeys(ROLES, 1980.0))
    assert same.clock_factor == 1.0 and not [text for text in same.sentences if "clock" in text]
    three = clocks_mhz({"gpu/clock_mhz": 1.0, "hw/gpu/clock_mhz": 2.0}, {"combined": "", "hw": "hw/", "arch": "arch/"})
    assert three == {"combined": 1.0, "hw": 2.0}
    assert explain(profiles(**CONFLICT), speeds(CONFLICT), None, "wall", 1, clocks_mhz=three).clock_factor is None

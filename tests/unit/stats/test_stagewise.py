"""A factor taken apart: the pieces always multiply to it, and each knows its own kind of cause."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.stats.roles import ROLES
from harness.stats.stagewise import decompose


def cells(**times):
    """Return by role the times of the parts "a" and "b"."""
    return {role: dict(zip("ab", pair, strict=True)) for role, pair in times.items()}


def totals(parts):
    return {role: sum(times.values()) for role, times in parts.items()}


def test_parts_that_scale_apart_but_multiply_leave_only_amdahl():
    # the arch technique halves a, the hw technique makes b ten times faster; nothing interacts within a part
    parts = cells(baseline=(8, 4), arch=(4, 4), hw=(8, 0.4), combined=(4, 0.4))
    found = decompose(parts, totals(parts), totals(parts))
    assert found.host == pytest.approx(0)
    assert all(value == pytest.approx(0) for value in found.parts.values())
    assert found.amdahl_factor == pytest.approx(8 * 8.4 / (12 * 4.4))
    assert found.amdahl_factor > 1  # each makes the other's part weigh more


def test_an_interaction_inside_one_part_is_booked_on_that_part():
    parts = cells(baseline=(8, 8), arch=(4, 4), hw=(4, 4), combined=(4, 2))  # in a, both together gain no more than one
    found = decompose(parts, totals(parts), totals(parts))
    assert found.amdahl == pytest.approx(0)
    assert found.parts["b"] == pytest.approx(0)
    assert found.parts["a"] == pytest.approx(found.log_factor) and found.log_factor < 0


def test_what_is_no_device_time_is_the_hosts():
    work = dict.fromkeys(ROLES, 1.0)
    wall = {"baseline": 4.0, "arch": 4.0, "hw": 2.0, "combined": 1.0}
    found = decompose({role: {"a": 1.0} for role in ROLES}, work, wall)
    assert found.host == pytest.approx(math.log(2))
    assert found.log_factor == pytest.approx(math.log(2))


times = st.floats(0.01, 100)


@given(st.lists(times, min_size=12, max_size=12), st.lists(times, min_size=8, max_size=8))
def test_the_pieces_multiply_to_the_factor_whatever_the_times(values, whole):
    parts = {role: {"a": values[n], "b": values[n + 4], "c": values[n + 8]} for n, role in enumerate(ROLES)}
    work, wall = dict(zip(ROLES, whole[:4], strict=True)), dict(zip(ROLES, whole[4:], strict=True))
    found = decompose(parts, work, wall)
    assert found.host + found.amdahl + sum(found.parts.values()) == pytest.approx(found.log_factor, abs=1e-9)


def test_a_cell_that_took_no_time_has_no_factor():
    one = dict.fromkeys(ROLES, 1.0)
    parts = {role: {"a": 1.0} for role in ROLES}
    for wrong in ((parts, {**one, "hw": 0.0}, one), (parts, one, {**one, "hw": 0.0}), ({**parts, "hw": {}}, one, one)):
        with pytest.raises(ValueError, match="positive time"):
            decompose(*wrong)


def test_three_cells_are_no_quartet():
    with pytest.raises(ValueError, match="four cells"):
        decompose({"baseline": {"a": 1.0}}, {"baseline": 1.0}, {"baseline": 1.0})


def test_a_part_that_only_some_cells_have_counts_as_no_time_in_the_others():
    # a late part of 0.5 ms that the arch technique adds, and nothing else differs
    parts = {
        "baseline": {"a": 0.4}, "arch": {"a": 0.4, "late": 0.5}, "hw": {"a": 0.2}, "combined": {"a": 0.2, "late": 0.5},
    }  # fmt: skip
    found = decompose(parts, totals(parts), totals(parts))
    assert found.parts == pytest.approx({"a": 0, "late": 0})  # not in the baseline: no gain that could multiply
    assert found.amdahl_factor == pytest.approx(0.9 * 0.2 / (0.4 * 0.7))


def test_parts_shorter_than_a_millisecond_multiply_as_longer_ones_do():
    parts = cells(baseline=(0.8, 0.4), arch=(0.4, 0.4), hw=(0.8, 0.04), combined=(0.4, 0.08))
    found = decompose(parts, totals(parts), totals(parts))
    assert found.parts["a"] == pytest.approx(0) and found.parts["b"] < -0.05


def test_a_cell_without_time_is_refused():
    parts = cells(baseline=(8, 4), arch=(4, 4), hw=(8, 0.4), combined=(0, 0))
    with pytest.raises(ValueError, match=r"^every cell needs a positive time$"):
        decompose(parts, totals(parts), totals(parts))

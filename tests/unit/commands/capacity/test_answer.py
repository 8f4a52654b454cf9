"""Which cells are planned for: the best one unless named, the baseline beside it, and why it is missing if it is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.commands.capacity.answer import Question, answer, choose
from harness.commands.capacity.plan import constant
from harness.system.errors import UserError

DEMAND = constant(1000)


def named(found):
    return [plan.sustained.cell for plan in found.plans]


def test_the_candidate_is_the_best_cell_beside_its_baseline(curves):
    found = answer([curves], Question(DEMAND))
    assert named(found) == ["baseline", max(curves.cells, key=lambda name: curves.cells[name].at_slo_per_s)]
    assert found.checks == ()


def test_a_named_cell_and_a_named_quartet_are_taken(curves):
    other = replace(curves, name="other")
    found = answer([curves, other], Question(DEMAND, candidate="arch", quartet="other"))
    assert (named(found), found.curves.name) == (["baseline", "arch"], "other")
    assert named(answer([curves], Question(DEMAND, candidate="baseline"))) == ["baseline"]


def test_the_best_of_several_quartets_is_chosen(curves):
    better = replace(curves.cells["arch"], at_slo_per_s=1e6, low_per_s=None, high_per_s=None)
    best = replace(curves, name="best", cells={**curves.cells, "arch": better})
    chosen, candidate = choose([curves, best, curves], Question(DEMAND))
    assert (chosen.name, candidate.cell) == ("best", "arch")


def test_a_bare_baseline_is_planned_alone(curves):
    bare = replace(curves, cells={"baseline": curves.cells["baseline"]})
    assert named(answer([bare], Question(DEMAND))) == ["baseline"]


def test_a_baseline_that_never_met_the_bound_leaves_the_candidate_and_its_reason(curves):
    late = replace(curves.cells["baseline"], at_slo_per_s=0.0)
    found = answer([replace(curves, cells={**curves.cells, "baseline": late})], Question(DEMAND))
    assert len(found.plans) == 1
    assert "no rate within its bound" in found.baseline_missing


def test_what_is_not_there_is_refused_with_what_is(curves):
    with pytest.raises(UserError, match=r"no quartet 'x'; there are: serving\.json"):
        answer([curves], Question(DEMAND, quartet="x"))
    with pytest.raises(UserError, match=r"no cell 'x' .*there are: baseline, arch, hw, combined"):
        answer([curves], Question(DEMAND, candidate="x"))
    with pytest.raises(UserError, match="was not measured"):
        answer([curves], Question(DEMAND, slo_ms=1000))

"""The verdicts of a sweep together: each row keeps its own verdict, and beside it the one that stands after Holm."""

from __future__ import annotations

import math

import pandas
import pytest

from harness.results.row import QuartetRecord
from harness.stats.multiplicity import holm_p_values
from harness.sweep.conclude import adjust
from harness.tracking.load import load
from harness.tracking.runs import finish, log_quartet, start_quartet, start_sweep


@pytest.fixture
def adjusted(store):
    """Return a function: adjusted((p, verdict), ...) -> the rows of a sweep of those quartets, after adjusting."""

    def make(*quartets, level=0.95, broken=(), **params) -> pandas.DataFrame:
        sweep = start_sweep(store, "family", {}, {})
        for number, (p_value, verdict) in enumerate([*quartets, *broken]):
            run_id = start_quartet(store, sweep, f"quartet {number}", {"protocol.level": level, **params}, {})
            metrics = {} if p_value is None else {"interaction/p_value": p_value}
            tags = {"verdict": verdict} if verdict else {}
            log_quartet(store, run_id, QuartetRecord(metrics=metrics, tags=tags))
            failed = number >= len(quartets)
            finish(store, run_id, "FAILED" if failed else "FINISHED", "killed" if failed else None)
        adjust(store, load(sweep, store.uri))
        return load(sweep, store.uri)

    return make


def test_a_verdict_just_below_the_level_does_not_stand_beside_another_quartet(adjusted):
    rows = adjusted((0.04, "amplify"), (0.6, "inconclusive"))
    assert rows["verdict"].tolist() == ["amplify", "inconclusive"]
    assert rows["verdict_holm"].tolist() == ["inconclusive", "inconclusive"]
    assert rows["interaction/p_holm"].tolist() == holm_p_values([0.04, 0.6]) == [0.08, 0.6]
    assert rows["interaction/p_value"].tolist() == [0.04, 0.6]


def test_a_single_quartet_keeps_its_verdict(adjusted):
    rows = adjusted((0.04, "amplify"))
    assert rows[["verdict", "verdict_holm"]].to_numpy().tolist() == [["amplify", "amplify"]]
    assert rows["interaction/p_holm"].tolist() == [0.04]


def test_clear_verdicts_stand_and_each_row_gets_its_own_p_value(adjusted):
    p_values = [0.03, 0.001, 0.02, 0.9]
    rows = adjusted(*zip(p_values, ("conflict", "independent", "amplify", "inconclusive"), strict=True))
    assert rows["interaction/p_holm"].tolist() == pytest.approx([0.06, 0.004, 0.06, 0.9])
    assert rows["interaction/p_holm"].tolist() == holm_p_values(p_values)
    assert rows["verdict_holm"].tolist() == ["inconclusive", "independent", "inconclusive", "inconclusive"]


def test_the_level_is_that_of_the_protocol(adjusted):
    assert adjusted((0.04, "amplify"), (0.04, "amplify"), level=0.9)["verdict_holm"].tolist() == ["amplify"] * 2
    assert adjusted((0.04, "amplify"), level=0.99)["verdict_holm"].tolist() == ["inconclusive"]


def test_only_finished_quartets_with_a_factor_are_the_family(adjusted):
    rows = adjusted((0.04, "amplify"), (None, None), broken=[(0.5, "amplify"), (None, None)])
    assert rows["verdict_holm"].tolist() == ["amplify", None, None, None]
    first, *others = rows["interaction/p_holm"].tolist()
    assert first == 0.04
    assert all(math.isnan(value) for value in others)


def test_a_screen_is_corrected_by_benjamini_and_hochberg_under_names_of_its_own(adjusted):
    quartets = [(0.03, "amplify"), (0.02, "conflict"), (0.6, "inconclusive")]
    screen = adjusted(*quartets, **{"protocol.family": "bh"})
    assert screen["verdict_bh"].tolist() == ["amplify", "conflict", "inconclusive"]
    assert screen["interaction/p_bh"].tolist() == pytest.approx([0.045, 0.045, 0.6])
    assert not {"verdict_holm", "interaction/p_holm"} & set(screen)
    assert adjusted(*quartets, **{"protocol.family": "holm"})["verdict_holm"].tolist() == ["inconclusive"] * 3


def test_a_sweep_without_a_factor_is_left_as_it_is(adjusted):
    assert not {"verdict_holm", "interaction/p_holm"} & set(adjusted((None, None)))

"""Two studies: what changed beyond the intervals, and a gate that fails on that alone."""

from __future__ import annotations

import pandas
import pytest

from harness.report.__main__ import main
from harness.report.compare import Gate, compare, failures, is_changed, parse_gate
from harness.report.study import open_study
from harness.system.errors import UserError

SLOWER = (100.0, 150.0, 300.0, 320.0)  # the combined cell, by 11%


@pytest.fixture
def compared(folder):
    def make(before, after, **options):
        return compare(*(open_study(str(folder(name, *rows, **options))) for name, rows in
                         (("before", before), ("after", after))))  # fmt: skip

    return make


def test_only_the_cell_that_changed_is_reported(row, compared):
    found = compared([row()], [row(speeds=SLOWER)])
    assert [one.label for one in found.cells if is_changed(one.ratio)] == [
        "grouped x fusion b4 (onnxruntime): combined, grouped + fusion"
    ]
    (changed,) = [one for one in found.cells if is_changed(one.ratio)]
    assert changed.ratio.low < 320 / 360 < changed.ratio.high


def test_the_gate_fails_on_a_slowdown_beyond_its_share_and_passes_one_within(row, compared):
    found = compared([row()], [row(speeds=SLOWER)])
    assert len(failures(found, Gate(0.03))) == 1
    assert failures(found, Gate(0.2)) == []


def test_noise_that_hides_a_slowdown_does_not_fail_the_gate(row, compared):
    found = compared([row()], [row(speeds=SLOWER)], sd=0.4)
    assert failures(found, Gate(0.03)) == []


def test_a_quartet_that_fails_now_fails_the_gate(row, compared):
    found = compared([row()], [row(status="FAILED", error="out of memory")])
    assert failures(found, Gate(0.03)) == ["failed now: grouped x fusion b4"]


def test_what_only_one_study_has_is_listed(row, compared):
    found = compared([row(), row(hw="fp16")], [row(), row("low_rank")])
    assert found.only_before == ("grouped x fp16 b4",) and found.only_after == ("low_rank x fusion b4",)


def test_another_engine_version_is_compared_and_named(row, compared):
    found = compared([row()], [row(engine_version="2.0")])
    assert ("engine_version", "1.0", "2.0") in found.differing
    assert len(found.cells) == 4


def test_without_samples_nothing_is_claimed_and_the_gate_cannot_decide(row, compared):
    found = compared([row()], [row(speeds=SLOWER)], samples=False)
    assert {one.no_ratio for one in found.cells} == {"its samples were not stored"}
    with pytest.raises(UserError, match="can't decide"):
        failures(found, Gate(0.03))


def test_where_iterations_were_thinned_whole_visits_are_compared(row, folder):
    places = [folder("before", row()), folder("after", row())]
    table = pandas.read_parquet(places[1] / "samples.parquet")
    keys = ["run_id", "cell", "build", "restart", "block", "order", "boundary"]
    visits = table.groupby(keys)["milliseconds"].agg(iterations="count", milliseconds="sum").reset_index()
    visits.to_parquet(places[1] / "visits.parquet")
    table.assign(milliseconds=table["milliseconds"] * 2).groupby(keys).head(1).to_parquet(places[1] / "samples.parquet")
    found = compare(*(open_study(str(place)) for place in places))
    assert all(one.ratio.low < 1 < one.ratio.high for one in found.cells)


@pytest.mark.parametrize("text", ["slower", "slower:3", "faster:3%", "slower:x%", "slower:-1%", "slower:100%"])
def test_a_gate_that_is_none_is_refused(text):
    with pytest.raises(UserError, match="as slower:3%"):
        parse_gate(text)


def test_the_command_ends_with_1_where_the_gate_fails_and_0_where_not(row, folder, capsys):
    before, slower = folder("before", row()), folder("slower", row(speeds=SLOWER))
    assert main([str(before), str(slower), "--fail-on", "slower:3%"]) == 1
    assert "slower: grouped x fusion b4 (onnxruntime): combined" in capsys.readouterr().err
    assert main([str(before), str(before), "--fail-on", "slower:3%"]) == 0
    assert main([str(before), "--fail-on", "slower:3%"]) == 2
    assert "name both" in capsys.readouterr().err

"""Two studies: what changed beyond the intervals, and a gate that fails on that alone."""

from __future__ import annotations

import pandas
import pytest

from harness.report.command import main
from harness.report.compare import Gate, Judgement, compare, is_changed, judge, parse_gate
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
    assert len(judge(found, Gate(0.03)).failed) == 1 and not judge(found, Gate(0.03)).undecided
    assert judge(found, Gate(0.2)) == Judgement((), ())


def test_of_a_slowdown_that_noise_hides_the_gate_can_not_tell(row, compared):
    found = judge(compared([row()], [row(speeds=SLOWER)], sd=0.4), Gate(0.03))
    assert not found.failed and len(found.undecided) == 4
    assert all("the limit of 0.97 is within" in line for line in found.undecided)


def test_a_quartet_that_fails_now_fails_the_gate(row, compared):
    found = compared([row()], [row(status="FAILED", error="out of memory")])
    assert judge(found, Gate(0.03)).failed == ("failed now: grouped x fusion b4",)


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
        judge(found, Gate(0.03))


def test_a_cell_without_samples_beside_others_is_undecided(row, folder):
    places = [folder("before", row(), row(hw="fp16")), folder("after", row(), row(hw="fp16"))]
    table = pandas.read_parquet(places[1] / "samples.parquet")
    table[table["run_id"] == row()["run_id"]].to_parquet(places[1] / "samples.parquet")
    found = judge(compare(*(open_study(str(place)) for place in places)), Gate(0.03))
    assert not found.failed and len(found.undecided) == 4
    assert all("its samples were not stored" in line for line in found.undecided)


def test_a_cell_that_computes_something_else_now_is_among_the_differences(row, compared):
    work = {"roofline/gflop_per_image": 2.87, "baseline/roofline/gflop_per_image": 5.7}
    found = compared([row(**work)], [row(**work | {"roofline/gflop_per_image": 1.435})])
    assert ("GFLOP/image of grouped + fusion", "2.87", "1.435") in found.differing
    assert not any("baseline" in what for what, _, _ in found.differing)


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


def test_what_can_not_be_told_passes_or_is_status_3_as_asked_and_is_said_in_any_case(row, folder, capsys):
    studies = [str(folder("before", row(), sd=0.4)), str(folder("after", row(speeds=SLOWER), sd=0.4))]
    for words, status in (([], 0), (["--undecided", "pass"], 0), (["--undecided", "fail"], 3)):
        assert main([*studies, "--fail-on", "slower:3%", *words]) == status
        printed = capsys.readouterr()
        assert "Gate slower:3%, of 4 cells, 4 undecided: undecided, none is slower for sure" in printed.out
        assert printed.err.count("harness.report: undecided: grouped x fusion b4") == 4
    assert main([*studies, "--undecided", "fail"]) == 2


def test_a_slowdown_that_is_sure_is_status_1_whatever_else_is_undecided(row, folder, capsys):
    studies = [str(folder("before", row())), str(folder("slower", row(speeds=SLOWER)))]
    assert main([*studies, "--fail-on", "slower:3%", "--undecided", "fail"]) == 1
    assert "failed, 1 slower for sure" in capsys.readouterr().out
    assert main([studies[0], studies[0], "--fail-on", "slower:3%", "--undecided", "fail"]) == 0
    assert "passed, none is slower by more" in capsys.readouterr().out


def test_the_page_and_the_figures_of_a_comparison_are_written(row, folder, tmp_path, capsys):
    same, slower = row("low_rank", "<b>fp16"), row(speeds=SLOWER)
    studies = [str(folder("before", row(), same)), str(folder("after", slower, same, row("pruned")))]
    page, figures = tmp_path / "page.html", tmp_path / "figures"
    assert main([*studies, "--html", str(page), "--figures", str(figures), "--fail-on", "slower:3%"]) == 1
    printed = capsys.readouterr().out
    assert f"The page: {page}" in printed and f"The figures: {figures}" in printed
    assert {one.name for one in figures.iterdir()} == {
        f"{name}.{kind}" for name in ("throughputs", "changed_factors") for kind in ("png", "svg")
    }
    text = page.read_text()
    assert text.count("<svg") == 2 and "<script" not in text and "<b>fp16" not in text
    assert "grouped x fusion b4 (onnxruntime): combined, grouped + fusion" in text
    assert "<b>failed</b>" in text and "slower: grouped x fusion b4" in text
    assert "only in" in text and "pruned x fusion b4" in text
    assert "of 8 cells changed beyond the interval" in text


def test_a_comparison_of_nothing_in_common_still_has_its_page(row, folder, tmp_path):
    studies = [str(folder("before", row())), str(folder("after", row("pruned")))]
    page = tmp_path / "page.html"
    assert main([*studies, "--html", str(page)]) == 0
    assert "only in" in page.read_text() and "<svg" not in page.read_text()

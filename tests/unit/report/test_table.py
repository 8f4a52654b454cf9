"""The table at the end of a sweep: what a reader must know of a verdict is a footnote."""

from __future__ import annotations

import io

import pandas
import pytest
from rich.console import Console

from harness.report.table import print_table

HOLM = "significant alone, not after Holm correction over the sweep"


def row(name: str, **values) -> dict:
    return {
        "run_id": name, "run_name": name, "status": "FINISHED", "error": None,
        "model": "densenet_tiny", "reference": "eager", "engine": "onnxruntime", "engine_version": "1",
        "boundary": "wall", "baseline/throughput/wall": 100.0, "throughput/wall": 300.0,
        "gain/arch": 1.5, "gain/hw": 1.5, "gain/combined": 3.0, "gain/expected": 2.25,
        "interaction/factor": 1.333, "interaction/low": 1.1, "interaction/high": 1.6,
        "verdict": "amplify", "converged": "true", **values,
    }  # fmt: skip


@pytest.fixture
def printed():
    """Return a function: printed(row, ...) -> the lines of their table."""

    def lines(*rows, width=140) -> list[str]:
        out = io.StringIO()
        print_table(Console(file=out, width=width), pandas.DataFrame(rows), "sqlite:///x.db")
        return out.getvalue().splitlines()

    return lines


def line_of(lines: list[str], name: str) -> str:
    (found,) = [line for line in lines if line.startswith(f"{name} ")]
    return found.rstrip()


def test_a_verdict_that_does_not_stand_beside_the_others_has_a_footnote(printed):
    lines = printed(
        row("stands", verdict_holm="amplify"),
        row("falls", verdict_holm="inconclusive"),
        row("also-falls", verdict="conflict", verdict_holm="inconclusive"),
        row("undecided", verdict="inconclusive", verdict_holm="inconclusive"),
    )
    assert line_of(lines, "stands").endswith(" amplify")
    assert line_of(lines, "falls").endswith(" amplify *1")
    assert line_of(lines, "also-falls").endswith(" conflict *1")
    assert line_of(lines, "undecided").endswith(" inconclusive")
    assert [line for line in lines if line.startswith(" *")] == [f" *1 {HOLM}: measure more"]


def test_the_heading_and_the_footnote_name_the_correction(printed):
    for tag, title in (("verdict_holm", "Holm"), ("verdict_bh", "Benjamini-Hochberg")):
        lines = printed(row("stands", **{tag: "amplify"}), row("falls", **{tag: "inconclusive"}))
        (heading,) = [number for number, line in enumerate(lines) if line.startswith("densenet_tiny, ")]
        assert lines[heading + 2] == f"A verdict that does not hold after {title} correction over the sweep is marked."
        assert f" *1 significant alone, not after {title} correction over the sweep: measure more" in lines
    assert not [line for line in printed(row("alone")) if "correction" in line]


def test_over_eager_a_line_names_the_engine_that_its_gain_contains(printed):
    names = {"arch": "grouped", "hw": "fp16+fusion", "run_name": "grouped x fp16+fusion b8"}
    over_eager = printed(row("one", **names), row("control", arch="identity", hw="identity"))
    line_of(over_eager, "grouped x onnxruntime + fp16 + fusion b8")
    line_of(printed(row("one", reference="engine", **names)), "grouped x fp16+fusion b8")


def test_where_nothing_was_adjusted_there_is_no_footnote(printed):
    lines = printed(row("alone"), row("built", verdict_holm=None))
    assert line_of(lines, "alone").endswith(" amplify")
    assert not [line for line in lines if "*" in line]


def test_footnotes_are_numbered_in_the_order_of_their_rows(printed):
    lines = printed(
        row("slow", converged="false", verdict_holm="amplify"),
        row("both", converged="false", verdict_holm="inconclusive"),
    )
    assert line_of(lines, "slow").endswith(" *1")
    assert line_of(lines, "both").endswith(" *1 *2")
    assert [line[:3] for line in lines if line.startswith(" *")] == [" *1", " *2"]
    assert [line for line in lines if line.startswith(" *2") and HOLM in line]


def test_no_advice_is_given_for_a_verdict_that_does_not_stand(printed):
    advice = "Use both together."
    stands = printed(row("stands", verdict_holm="amplify", strategy=advice))
    falls = printed(row("falls", verdict_holm="inconclusive", strategy=advice))
    assert [line for line in stands if advice in line]
    assert not [line for line in falls if advice in line]


def test_what_else_must_be_known_of_a_measurement_is_a_footnote(printed):
    lines = printed(row("plain"), row("busy", note="hw: no steady state within the warm-up's time"))
    assert line_of(lines, "busy").endswith(" amplify *1")
    assert " *1 hw: no steady state within the warm-up's time" in lines
    assert line_of(lines, "plain").endswith(" amplify")


@pytest.mark.parametrize("width", [30, 40, 60, 72, 80, 100, 140])
def test_no_number_is_cut_however_narrow_the_terminal(printed, width):
    lines = printed(row("grouped x fusion b4"), row("low_rank x fp16+fusion b32"), width=width)
    text = "\n".join(lines)
    assert "…" not in text
    for whole in ("300.0", "1.333 [1.100, 1.600]", "amplify"):
        assert sum(whole in line for line in lines) >= 2, whole  # the headline has some of them again
    assert max(len(line) for line in lines[:-1]) <= width


def test_gains_give_way_before_speed_factor_and_verdict_do(printed):
    tables = {width: printed(row("grouped x fusion b4"), width=width) for width in (76, 88, 140)}
    headings = {width: next(line for line in lines if "verdict  " in f"{line}  ") for width, lines in tables.items()}
    assert "expected" in headings[140]
    assert "expected" not in headings[88] and "both" in headings[88]
    assert "both" not in headings[76] and "images/s" in headings[76]


@pytest.mark.parametrize(
    ("half_width", "boundary", "more"),
    [
        (0.06, "wall", "about 3 more minutes for +-3%; "),  # 60 s of blocks x (2^2 - 1)
        (0.031, "wall", "about 1 more minute for +-3%; "),
        (0.03, "device", "about 8 more minutes for +-1%; "),
        (3.0, "wall", "more than an hour for +-3%; "),
        (0.02, "wall", ""),  # narrow, but undecided
        (float("inf"), "wall", ""),
        (float("nan"), "wall", ""),
    ],
)
def test_a_wide_interval_says_how_much_longer(printed, half_width, boundary, more):
    values = {"measure/half_width": half_width, "measure/seconds": 100.0, "measure/bring_up_s": 40.0}
    values |= {"measure/blocks": 12.0, "boundary": boundary, f"throughput/{boundary}": 1.0}
    lines = printed(row("wide", converged="false", **values))
    assert f" *1 not converged within its budget: {more}protocol.budget_s=... measures longer" in lines


def test_the_target_that_was_asked_for_counts(printed):
    values = {"measure/half_width": 0.1, "measure/seconds": 60.0, "measure/bring_up_s": 0.0, "measure/blocks": 12.0}
    lines = printed(row("wide", converged="false", **values, **{"protocol.half_width": "0.05"}))
    assert any("about 3 more minutes for +-5%" in line for line in lines)
    lines = printed(row("few", converged="false", **{**values, "measure/blocks": 4.0}))
    assert any("budget: protocol.budget_s" in line for line in lines)
    lines = printed(row("builds", converged="false", **values, **{"measure/builds": 3.0}))
    assert any("budget: protocol.budget_s" in line for line in lines)

"""The sentence and the bars say what the row holds, with as many digits as its interval supports."""

from __future__ import annotations

import io
import math

import pytest
from rich.console import Console

from harness.report.figures.quartet import draw_headline
from harness.results.headline import (
    FourBars,
    Headline,
    columns_for_people,
    headline_of,
    headline_of_study,
    known_decimals,
)
from harness.stats import Gains

ROW = {
    "arch": "grouped", "hw": "fusion", "engine": "onnxruntime", "reference": "engine", "verdict": "independent",
    "gain/arch": 1.2, "gain/hw": 2.9, "gain/expected": 3.48, "gain/combined": 3.6,
    "interaction/factor": 3.6 / 3.48, "interaction/low": 0.99, "interaction/high": 1.08,
}  # fmt: skip


def bars(headline: Headline, width: int = 80, encoding: str = "utf-8") -> list[str]:
    written = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(width=width, record=True, file=written)
    console.print(FourBars(headline))
    return console.export_text().splitlines()


def test_the_sentence_says_both_gains_and_the_verdict():
    assert headline_of(ROW).sentence == "grouped x fusion: together 3.6x, expected 3.5x: independent"


def test_the_engine_that_a_gain_contains_is_named():
    assert headline_of(ROW | {"reference": "eager"}).sentence.startswith("grouped x onnxruntime + fusion: ")


def test_the_verdict_is_the_one_after_the_correction_and_degraded_is_said():
    row = ROW | {"verdict_holm": "inconclusive", "degraded": "combined: fp32 stayed"}
    assert headline_of(row).sentence.endswith("inconclusive, degraded")


@pytest.mark.parametrize("missing", ["gain/combined", "gain/expected", "gain/arch"])
@pytest.mark.parametrize("value", [None, math.nan])
def test_a_row_without_a_factor_has_no_headline(missing, value):
    assert headline_of(ROW | {missing: value}) is None


@pytest.mark.parametrize(
    ("half_width", "shown"), [(0.3, "3.6x"), (0.05, "3.6x"), (0.01, "3.57x"), (0.0001, "3.571x"), (math.inf, "3.6x")]
)
def test_a_gain_has_the_digits_that_are_known(half_width, shown):
    low, high = math.exp(-half_width), math.exp(half_width)
    headline = Headline("a", "b", Gains(1.2, 2.9, 3.571, 3.5), low if high < math.inf else 0.0, high, "independent")
    assert headline.in_words(3.571) == shown


@pytest.mark.parametrize("factor", [0.3, 0.93, 1.07, 1.4])
@pytest.mark.parametrize("share", [0.999, 0.3, 0.01])
def test_a_verdict_is_visible_in_its_digits(factor, share):
    """An interval that leaves out 1 never shows both gains as one number."""
    half = abs(math.log(factor)) * share
    for expected in (0.42, 1.0, 3.48, 97.3):
        gains = Gains(1.0, expected, expected * factor, expected)
        found = Headline("a", "b", gains, factor * math.exp(-half), factor * math.exp(half), "conflict")
        assert found.in_words(gains.combined) != found.in_words(gains.expected)


def test_decimals_end_at_the_first_uncertain_digit():
    assert [known_decimals(3.6, half) for half in (0.5, 0.1, 0.02, 0.002)] == [0, 1, 2, 3]


def test_the_bars_are_as_long_as_the_gains_and_the_gap_is_marked():
    above = bars(headline_of(ROW))
    assert [line.split()[0] for line in above] == ["architecture", "hardware", "expected", "together"]
    lengths = [sum(line.count(mark) for mark in "█▓") for line in above]
    assert lengths[0] < lengths[1] < lengths[2] < lengths[3]
    assert above[3].count("▓") == lengths[3] - lengths[2] > 0
    assert "factor 1.034 [0.990, 1.080]" in above[3]
    below = bars(headline_of(ROW | {"gain/combined": 2.0}))
    assert below[3].count("█") + below[3].count("░") == below[2].count("█")
    assert "▓" not in below[3]


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_the_bars_fit_a_narrow_and_a_wide_terminal(width):
    lines = bars(headline_of(ROW), width)
    assert len(lines) == 4 if width >= 60 else len(lines) >= 4
    assert max(map(len, lines)) <= min(width, 72)


def test_a_terminal_without_unicode_gets_bars_of_ascii():
    lines = bars(headline_of(ROW), encoding="ascii")
    assert "".join(lines).isascii()
    assert "#" in lines[0]
    assert "+" in lines[3]


def test_the_picture_says_the_sentence_and_its_labels_stand_apart():
    picture = draw_headline(headline_of(ROW))
    assert picture.title == "grouped x fusion: together 3.6x, expected 3.5x: independent"
    picture.figure.draw_without_rendering()
    (axes,) = picture.figure.axes
    labels = [text.get_window_extent() for text in axes.texts]
    assert [text.get_text() for text in axes.texts] == ["1.2x", "2.9x", "3.5x", "3.6x", "factor\n1.034"]
    assert not any(one.overlaps(other) for n, one in enumerate(labels) for other in labels[n + 1 :])
    edge = picture.figure.bbox
    assert all(label.x1 <= edge.x1 and label.y1 <= edge.y1 for label in labels)


def test_a_studys_headline_is_the_highest_gain_that_is_decided_of_real_techniques():
    faster = ROW | {"verdict": "inconclusive", "gain/combined": 5.0}
    slower = ROW | {"arch": "pruned", "gain/combined": 3.0}
    control = ROW | {"arch": "identity", "hw": "identity", "gain/combined": 9.0}
    degraded = ROW | {"arch": "low_rank", "gain/combined": 8.0, "degraded": "fp32 stayed"}
    rows = [slower, faster, ROW, control, degraded, ROW | {"gain/arch": math.nan}]
    assert headline_of_study(rows) == headline_of(ROW)
    assert headline_of_study([faster, degraded]) == headline_of(faster)
    assert headline_of_study([control, faster | {"interaction/low": 0.2, "interaction/high": 2.5}]) is None


def test_the_columns_for_people_are_rounded_copies_of_the_row():
    row = ROW | {"boundary": "wall", "throughput/wall": 3867.1931, "hw/throughput/wall": 0.123456, "degraded": "x: y"}
    assert columns_for_people(row) == {
        "outcome": "independent, degraded", "factor": "1.034 [0.990, 1.080]", "together": "3.6x", "expected": "3.5x",
        "hw_per_s": "0.1235", "combined_per_s": "3,867", "unit": "images/s",
    }  # fmt: skip
    found = columns_for_people({"boundary": "wall", "throughput/wall": 123456.7})
    assert found == {"combined_per_s": "123,500", "unit": "images/s"}
    assert columns_for_people({}) == {}

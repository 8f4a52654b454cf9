"""The page: whole, alone, and safe from what names and parameters hold."""

from __future__ import annotations

import re
import time
from dataclasses import replace

import pytest

from harness.report.choose import Limits
from harness.report.command import main
from harness.report.findings import find
from harness.report.page import _pieces, page
from harness.report.questions import answers
from harness.report.study import Study, open_study
from harness.stats.factorial import Ratio

HOSTILE = '<script>alert("x")</script><img src=x onerror=alert(1)>'


@pytest.fixture
def written(folder, tmp_path):
    """Return a function: written(row(...), ...) -> the text of the page of a folder's study."""

    def make(*rows):
        path = tmp_path / "page.html"
        assert main([str(folder("study", *rows)), "--html", str(path)]) == 0
        assert [one.name for one in tmp_path.iterdir() if one.suffix == ".part"] == []
        return path.read_text(encoding="utf-8")

    return make


def test_factors_and_intervals_are_in_the_page(row, written):
    text = written(row(factor=0.8123, half=0.02), row(hw="fp16", factor=1.0))
    assert "0.812" in text and f"[{0.8123 * 0.9802:.3f}" in text
    for section in ("answers", "matrix", "gains", "model", "choice", "quartets", "environment"):
        assert f'id="{section}"' in text


def test_hostile_names_parameters_and_reasons_stay_text(row, written):
    text = written(
        row(HOSTILE, HOSTILE, run_name=HOSTILE, error=HOSTILE, engine=HOSTILE, strategy=HOSTILE, gpu=HOSTILE),
        row(run_name=HOSTILE, status="FAILED", error=HOSTILE),
    )
    assert "<script" not in text and "<img" not in text
    assert "&lt;script&gt;" in text


def test_what_a_sweep_left_out_is_in_the_page_as_text(row, folder):
    study = open_study(str(folder("study", row())))
    assert "on_unsupported" not in page(study, find(study, Limits()))
    text = page(replace(study, left_out=f"arch=pruned: {HOSTILE}"), find(study, Limits()))
    assert "arch=pruned: &lt;script&gt;" in text and HOSTILE not in text


def test_a_dollar_sign_is_no_formula(row, written):
    assert "$\\frac{1}{2}$ x" in written(row(r"$\frac{1}{2}$", "fusion")).replace("\\$", "$")


def test_nothing_in_the_page_points_outside_it(row, written):
    text = written(row(), row(hw="fp16"), row(batch=8))
    assert (
        "<script" not in text
        and "@import" not in text
        and "<link" not in text.replace('<link rel="icon" href="data:,">', "")
    )
    targets = re.findall(r'(?:src|href|url)\s*[=(]\s*"?([^")\s>]+)', text)
    assert {target for target in targets if not target.startswith(("#", "data:"))} == set()


def test_ids_are_unique_and_all_figures_follow_the_pages_colours(row, written):
    text = written(row(), row(hw="fp16"), row(batch=8))
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert "var(--ink)" in text and "#101112" not in text


def test_a_page_that_cannot_be_written_is_one_line_and_status_2(row, folder, tmp_path, capsys):
    study = folder("study", row())
    assert main([str(study), "--html", str(tmp_path / "nowhere" / "page.html")]) == 2
    assert "choose another place" in capsys.readouterr().err


@pytest.mark.slow
def test_five_hundred_quartets_stay_small_and_quick(row, written):
    rows = [
        row(f"a{number % 25}", f"h{number // 25}", factor=0.7 + number / 1000, run_id=f"run{number}")
        for number in range(500)
    ]
    started = time.monotonic()
    text = written(*rows)
    assert len(text) < 5_000_000
    assert time.monotonic() - started < 120  # minutes would be a mistake of another order, not a slow machine
    assert "run499" in text


def test_figures_are_files_of_two_kinds_and_the_same_as_the_page_shows(row, folder, tmp_path):
    study = folder("study", row(), row(hw="fp16", factor=0.8))
    assert main([str(study), "--figures", str(tmp_path / "figures")]) == 0
    files = {one.name for one in (tmp_path / "figures").iterdir()}
    assert {"heatmap1.png", "heatmap1.svg", "factors.png"} <= files, files
    assert {one.rsplit(".", 1)[1] for one in files} == {"png", "svg"}
    assert (tmp_path / "figures" / "factors.png").read_bytes().startswith(b"\x89PNG")


def test_figures_that_cannot_be_written_are_one_line_and_status_2(row, folder, tmp_path, capsys):
    study = folder("study", row())
    assert main([str(study), "--figures", str(tmp_path / "nowhere" / "figures")]) == 2
    assert "choose another place" in capsys.readouterr().err


def test_a_factor_is_taken_apart_by_what_could_be_compared():
    """Parts that only one engine names are drawn, and have no factor: their time counts as unattributed."""
    logs = {"stem": 0.1, "unattributed": -0.4}
    why = {"part_ms": {"stem": {}, "encoder": {}}, "log_parts": logs, "log_host": 0.0, "log_amdahl": 0.0}
    assert [name for name, *_ in _pieces(why, Ratio(0.7, 0.65, 0.75))][2:] == ["stem", "unattributed"]


def test_the_page_begins_with_its_headline_and_four_bars(row, written):
    text = written(row(factor=0.8, half=0.02))
    sentence = "grouped x fusion: together 3.60x, expected 4.50x: conflict"
    assert text.index(f'<p class="headline">{sentence}</p>') < text.index('id="figure-headline"') < text.index("<nav")


def sentences_of(frame, *rows):
    study = Study("s", frame(*rows), "", None)
    return {answer.question: " ".join(answer.sentences) for answer in answers(find(study, Limits()))}


@pytest.mark.parametrize(
    ("share", "said"),
    [
        (0.8, "The chip's memory bandwidth: they reached 80.0%"),
        (0.1, "Neither the chip's arithmetic nor its memory bandwidth: they reached 10.0%"),
    ],
)
def test_what_limited_the_baselines_is_said_from_the_roofline(share, said, row, frame):
    measured = row(**{"baseline/roofline/share": share, "baseline/roofline/memory_bound": 1.0})
    assert sentences_of(frame, measured)["What limited the baselines?"].startswith(said)


def test_what_limited_the_baselines_is_not_said_where_nothing_measured_it(row, frame):
    assert "What limited the baselines?" not in sentences_of(frame, row())


def test_a_section_without_a_figure_is_left_out_with_its_link(row, written):
    text = written(row())
    assert "#machine" not in text and 'id="machine"' not in text
    assert "Not measured: the machine" in text

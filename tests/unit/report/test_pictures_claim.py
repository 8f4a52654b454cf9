"""Pictures and words claim what the verdict does, and no more."""

from __future__ import annotations

import math
from itertools import pairwise

import pandas
import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from harness.report.choose import Limits
from harness.report.figures import pictures
from harness.report.figures.factors import colour_share
from harness.report.findings import find
from harness.report.page import page
from harness.report.publish import description
from harness.report.study import Study
from harness.results.analyse import Analysis
from harness.results.figures import draw_quartet, tick_at_one
from harness.results.headline import Headline
from harness.results.why import WITHHELD, without_cause
from harness.stats.interaction import Gains, Interaction
from harness.stats.verdict import Verdict
from harness.system.counts import limits

NOTHING = to_rgba("none")


class NoFiles:
    """A study without files beside its rows, but for what a quartet's JSON holds."""

    def __init__(self, why=None):
        self._why = why

    def samples(self, run_id):
        return None

    visits = telemetry = samples

    def json(self, run_id, name):
        return {"why": self._why} if self._why and name == "interaction.json" else {}


@pytest.fixture
def drawn(frame):
    """Return a function: drawn(row, ...) -> the pictures of the study by name."""
    return lambda *rows: pictures(find(Study("study", frame(*rows), "", NoFiles()), Limits()))


def test_a_long_name_of_a_factor_is_folded_and_not_cut(row, drawn):
    names = ("pruned+early_exit", "grouped")
    shown = drawn(*(row(arch, "fp16+fusion", engine="inductor", reference="eager", batch=256) for arch in names))
    labels = [label.get_text() for label in shown["factors"].figure.axes[0].get_yticklabels()]
    assert labels == [f"{arch} x\ninductor + fp16 + fusion b256" for arch in names]
    assert drawn(row())["factors"].figure.axes[0].get_yticklabels()[0].get_text() == "grouped x fusion b4"


def places(picture):
    """Return the places of a heatmap in its order: colour, hatch, width of the frame."""
    (axes,) = picture.figure.axes
    return [(patch.get_facecolor(), patch.get_hatch(), patch.get_linewidth()) for patch in axes.patches]


def ticks(axis):
    low, high = sorted(axis.get_view_interval())
    return [tick for tick in axis.get_majorticklocs() if low <= tick <= high]


def test_what_is_not_decided_has_no_colour_and_no_frame(row, drawn):
    rows = [row(factor=0.6, half=0.02), row(hw="fp16", factor=0.6, half=0.9)]
    established, undecided = places(drawn(*rows)["heatmap1"])
    assert established[0] != NOTHING and established[1] is None and established[2] > 0
    assert undecided == (NOTHING, "///", 0)


def test_what_is_decided_alone_but_not_beside_the_others_has_no_colour(row, drawn):
    close = {"interaction/p_value": 0.04}
    (lone,) = places(drawn(row(factor=0.6, **close))["heatmap1"])
    many = places(drawn(*(row(arch, factor=0.6, **close) for arch in ("grouped", "low_rank")))["heatmap1"])
    assert lone[1] is None and [hatch for _, hatch, _ in many] == ["///", "///"]


def test_of_a_place_that_was_repeated_all_must_be_decided(row, drawn):
    again = row(factor=0.6, half=0.9, run_id="again")
    assert [hatch for _, hatch, _ in places(drawn(row(factor=0.6), again)["heatmap1"])] == ["///"]


def test_colours_differ_as_far_as_factors_do():
    shares = [colour_share(math.log(factor)) for factor in (0.1, 0.25, 0.39, 0.64, 0.9, 1, 1.5, 2.5, 4, 10)]
    assert shares == sorted(shares) and min(b - a for a, b in pairwise(shares)) > 0.015
    assert colour_share(math.log(0.64)) - colour_share(math.log(0.39)) > 0.25
    assert colour_share(-1.0) == -colour_share(1.0)


def test_the_front_is_drawn_and_its_objectives_are_named(row, drawn):
    # fp16 alone is slower and later than both together, and on the front for its memory alone
    rows = [row(speeds=(100.0, 150.0, 300.0, 360.0)), row(hw="fp16", **{"hw/host/peak_memory_mb": 100.0})]
    picture = drawn(*rows)["pareto"]
    assert "throughput, p50 latency, memory" in picture.title
    assert picture.caption.startswith("Objectives: throughput, p50 latency, memory.")
    assert "Hollow: on the front for memory, which no axis shows." in picture.caption
    (axes,) = picture.figure.axes
    lines = {line.get_label(): line for line in axes.lines}
    (front,) = [line for label, line in lines.items() if label == "the front by the two axes"]
    assert front.get_ydata()[-1] == pytest.approx(360) and front.get_xdata()[-1] == axes.get_xlim()[1]
    assert {
        line.get_markerfacecolor()
        for label, line in lines.items()
        if label.endswith(" fp16, batch 4") and "+" not in label
    } == {"none"}


def test_axes_of_ratios_have_a_tick_at_one(row, drawn):
    for factors in ((0.63, 0.98), (0.4, 2.0), (0.97, 1.02)):
        rows = [row(hw=f"hw{n}", factor=factor) for n, factor in enumerate(factors)]
        found = drawn(*rows)
        assert 1.0 in ticks(found["factors"].figure.axes[0].xaxis)
        assert 1.0 in ticks(found["gains"].figure.axes[0].xaxis)


@pytest.mark.parametrize("ends", [(0, 10), (0.8, 1.3), (0.95, 1.04), (0.5, 20)])
@pytest.mark.parametrize("scale", ["linear", "log"])
def test_a_tick_at_one_keeps_its_distance(ends, scale):
    axes = Figure().subplots()
    axes.set(xlim=(max(ends[0], 0.01), ends[1]), xscale=scale)
    tick_at_one(axes.xaxis)
    found = ticks(axes.xaxis)
    assert 1.0 in found and all(tick == 1.0 or abs(tick - 1) > 0.01 for tick in found)
    axes.set_xlim(2, 3)
    before = ticks(axes.xaxis)
    tick_at_one(axes.xaxis)
    assert ticks(axes.xaxis) == before


def test_a_quartets_own_picture_ends_where_its_interval_says_nothing(tmp_path):
    gains = Gains(arch=0.9, hw=4.2, combined=3.4, expected=3.78)
    ends = {"device": (1e-9, 6801074.0), "wall": (0.0, math.inf), "end_to_end": (0.9, 1.05)}
    found = {
        name: Interaction(0.97, low, high, Verdict.INCONCLUSIVE, "", 10, 1, 1, 9.0, 9.0, 1.0, gains, 0.05, 0.95)
        for name, (low, high) in ends.items()
    }
    headline = Headline("grouped", "fusion", gains, 0.0, math.inf, "inconclusive")
    analysis = Analysis({}, found, "device", "inconclusive", None)
    draw_quartet(analysis, headline, "grouped x fusion", tmp_path / "quartet.png")
    assert (tmp_path / "quartet.png").stat().st_size > 10_000


def test_no_label_of_a_gain_covers_a_bar(row, drawn):
    figure = drawn(row(), row("low_rank"))["gains"].figure
    figure.draw_without_rendering()
    (axes,) = figure.axes
    bars = [bar.get_window_extent() for bar in axes.patches]
    labels = [text.get_window_extent() for text in axes.texts if text.get_text()]
    assert len(labels) == 8
    assert not any(label.overlaps(bar) for label in labels for bar in bars)


def test_there_is_no_roofline_without_a_roof(row, drawn):
    work = {f"{cell}roofline/{name}": 5.0 for cell in ("baseline/", "arch/", "hw/", "")
            for name in ("gflop_per_image", "mb_per_image")}  # fmt: skip
    roof = {"machine/copy_gb_s": 3000.0, "machine/matmul_fp32_tflops": 50.0}
    assert "roofline" in drawn(row(**work, **roof))
    for lacking in roof:
        assert "roofline" not in drawn(row(**work, **{name: roof[name] for name in roof if name != lacking}))


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [
        (0.893, 0.9114, "[0.893, 0.911]"),
        (0.35, 3.4, "[0.350, 3.400]"),
        (0.3, 3.1, "[wider than tenfold]"),
        (1e-9, 6801074.05, "[wider than tenfold]"),
        (0.0, math.inf, "[wider than tenfold]"),
        (math.nan, math.nan, "[wider than tenfold]"),
    ],
)
def test_an_interval_that_says_nothing_has_no_digits(low, high, shown):
    assert limits(low, high) == shown


@pytest.mark.parametrize("ends", [{}, {"interaction/low": math.nan, "interaction/high": math.nan}])
def test_wherever_a_factor_is_shown_its_wide_interval_is_in_words(row, frame, ends, capsys):
    from rich.console import Console

    from harness.report.table import print_table
    from harness.report.text import print_findings

    wide = frame(row(factor=0.9, half=15.0, **ends), row("low_rank"))
    study = Study("study", wide, "", NoFiles())
    findings = find(study, Limits())
    print_table(Console(width=140), wide, None)
    print_findings(Console(width=140), findings)
    shown = [capsys.readouterr().out, page(study, findings), description(findings), findings_alt(findings)]
    for text in shown:
        assert "wider than tenfold" in text
        assert "0.000," not in text and "nan" not in text and "inf]" not in text


def findings_alt(findings):
    return " ".join(picture.alt for picture in pictures(findings).values())


def test_a_factor_whose_interval_holds_one_is_not_taken_apart(row, frame):
    parts = {"stem": dict.fromkeys(("baseline", "arch", "hw", "combined"), 1.0)}
    why = {"part_ms": parts, "log_parts": {"stem": -0.2}, "log_host": 0.0, "log_amdahl": -0.01}
    text = "The factor of 0.810 comes mostly from stem (x 0.819). Kernels or nodes a batch: baseline 9."
    pages = {}
    for half in (0.05, 0.5):
        study = Study("study", frame(row(factor=0.81, half=half, why=text)), "", NoFiles(why))
        pages[half] = page(study, find(study, Limits()))
    assert "comes mostly from" in pages[0.05] and "The factor, taken apart" in pages[0.05]
    assert '<tr class="unresolved"><th scope="row">pure stage-wise' in pages[0.05]  # smaller than the half-width
    assert '<tr><th scope="row">stem' in pages[0.05]
    assert "comes mostly from" not in pages[0.5] and "The factor, taken apart" not in pages[0.5]
    assert WITHHELD in pages[0.5] and "Kernels or nodes a batch: baseline 9." in pages[0.5]


def test_what_does_not_explain_is_left_as_it_was_stored():
    assert without_cause("", 0.5, 2.0) == ""
    assert without_cause("Kernels or nodes a batch: 3.", 0.5, 2.0) == "Kernels or nodes a batch: 3."
    open_verdict = "No verdict is established; as measured, the factor of 0.900 comes mostly from stem (x 0.9)."
    assert without_cause(open_verdict, 0.8, 1.1) == WITHHELD
    assert without_cause(open_verdict, 0.8, 0.95) == open_verdict


def test_columns_of_the_stores_table_stay_numbers(row, frame):
    from harness.report.publish import matrix_columns

    findings = find(Study("study", frame(row(factor=0.9, half=15.0)), "", NoFiles()), Limits())
    assert pandas.DataFrame(matrix_columns(findings))["high"].dtype == float

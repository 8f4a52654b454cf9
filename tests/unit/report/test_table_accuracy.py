"""The table has accuracy beside throughput where there are labels, and no empty column where there are none."""

from __future__ import annotations

import io

import pandas
import pytest
from rich.console import Console

from harness.report.table import print_table

ROW = {
    "run_id": "1", "run_name": "grouped x fusion b8", "status": "FINISHED", "model": "densenet_tiny",
    "boundary": "wall", "reference": "eager", "engine": "onnxruntime", "engine_version": "1",
    "throughput/wall": 100.0, "gain/arch": 1.0,
    "gain/hw": 2.0, "gain/expected": 2.0, "gain/combined": 2.0,
}  # fmt: skip


def printed(**more):
    console = Console(file=io.StringIO(), width=160)
    print_table(console, pandas.DataFrame([{**ROW, **more}]), "sqlite:///x")
    return console.file.getvalue()


def test_accuracy_stands_beside_throughput_with_its_change_in_points():
    text = printed(**{"accuracy/top1": 0.9721, "accuracy/drop": 0.0139})
    assert "top-1" in text
    assert "97.21% (-1.39)" in text


def test_the_richest_cell_that_has_one_is_shown():
    assert "99.16%" in printed(**{"baseline/accuracy/top1": 0.9916})


def test_without_labels_there_is_no_such_column():
    assert "top-1" not in printed()


def test_a_cell_of_untrained_weights_shows_no_accuracy_and_why():
    reason = "arch, combined: grouped needs training"
    text = printed(
        **{"baseline/accuracy/top1": 0.546, "baseline/accuracy/images": 359.0, "hw/accuracy/top1": 0.546,
           "hw/accuracy/images": 359.0, "accuracy/images": 359.0, "accuracy/agreement": 1.0, "untrained": reason}
    )  # fmt: skip
    assert "54.6" not in text  # another cell's
    assert f"*1 no accuracy: {reason}" in text


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ((-0.0195, -0.0396, 0.0008), "together they lose 1.95 points [-0.08, 3.96] more than one by one"),
        ((0.005, 0.001, 0.009), "together they lose 0.50 points [0.10, 0.90] less than one by one"),
    ],
)
def test_what_both_do_to_accuracy_beyond_each_is_said_with_its_interval(limits, expected):
    names = ("interaction/accuracy", "interaction/accuracy_low", "interaction/accuracy_high")
    assert expected in " ".join(printed(**dict(zip(names, limits, strict=True))).split())
    assert "together they lose" not in printed()

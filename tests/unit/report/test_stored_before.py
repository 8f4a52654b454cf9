"""Two sweeps that an earlier version stored (commit 8356ae3, before the rooms moved) still open everywhere."""

from __future__ import annotations

import sqlite3
import tarfile
from pathlib import Path

import pytest

import harness
from harness.report.command import main
from harness.results.metrics import declared
from harness.tracking.store import DATABASE

STORED = Path(__file__).with_name("stored_by_8356ae3.tar.xz")


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> str:
    """Return a folder with the store; MLflow keeps absolute paths, so it is told its new place."""
    folder = tmp_path_factory.mktemp("stored")
    with tarfile.open(STORED) as archive:
        archive.extractall(folder)  # ours, and Debian's Python 3.11.2 has no filter
    with sqlite3.connect(folder / DATABASE) as database:
        database.execute("UPDATE runs SET artifact_uri = replace(artifact_uri, '/STORE', ?)", (str(folder),))
    return str(folder)


def test_load_reads_its_rows_under_the_names_of_today(stored):
    frame = harness.load("before", stored)
    assert frame["run_name"].tolist() == ["grouped x fusion b2", "grouped x identity b2"]
    assert frame["interaction/factor"].round(3).tolist() == [0.847, 0.865]
    known = {name for metric in declared() for name in metric.names}
    assert {name for name in frame if "/" in name and name.partition("/")[2] not in known} <= known


def test_the_report_says_the_factors_and_draws_the_page(stored, tmp_path, capsys):
    page = tmp_path / "page.html"
    assert main(["before", "--uri", stored, "--html", str(page)]) == 0
    assert "0.847 [0.443, 1.620]" in capsys.readouterr().out
    text = page.read_text()
    assert "grouped x fusion b2" in text
    assert 'id="figure-stages1"' in text
    assert 'id="figure-latency1"' in text


def test_a_comparison_reads_the_samples_of_both(stored, capsys):
    assert main(["before", "after", "--uri", stored]) == 0
    assert "for all 8 cells together" in capsys.readouterr().out

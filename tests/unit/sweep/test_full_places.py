"""A disk that is full costs no measurement that another one has room for; where none has, nothing more is measured."""

from __future__ import annotations

import errno
import tempfile
from pathlib import Path

import pytest

import harness
from harness.measure.progress import Silent
from harness.report.study import _StoreFiles
from harness.sweep import job as job_module
from harness.sweep import run as run_module
from harness.sweep.job import PlannedDesign, PlannedJob, _Rows
from harness.tracking import children
from harness.tracking.outbox import RowLost
from harness.tracking.runs import log_text, start_sweep


@pytest.fixture
def rows(planned, tracking, store):
    """Return a design's rows, begun in a store, and what its quartets came to."""
    plan = planned("hw=fusion", f"tracking.root={tracking.root}")
    ended = []
    design = PlannedDesign((PlannedJob(plan, "text"),))
    found = _Rows(design, store, Silent(), lambda job, reason: ended.append(reason))
    found.begin(start_sweep(store, "full", {}, {}))
    return found, ended


def _full(place: str):
    """Return a `row_of` that finds no room below a place, else a row with one file."""

    def row_of(plan, built, measurement, folder, text):
        if str(folder).startswith(place):
            raise OSError(errno.ENOSPC, "No space left on device")
        (folder / "notes.txt").write_text("measured")
        return job_module.QuartetRecord(artifacts={"notes.txt": folder / "notes.txt"})

    return row_of


@pytest.mark.parametrize("full", ["the store's", "the temporary"])
def test_a_row_is_kept_where_there_is_room(rows, store, tracking, monkeypatch, tmp_path_factory, full):
    temporary = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    place = str(tracking.root if full == "the store's" else temporary)
    monkeypatch.setattr(job_module, "row_of", _full(place))
    found, ended = rows
    found.finish(0, [], None)
    (run,) = children(store, found.runs[0].sweep_id)
    assert (ended, run.info.status) == ([None], "FINISHED")
    assert list(temporary.iterdir()) == [] and list(Path(tracking.root, "outbox").glob("*/*")) == []


def test_a_row_that_finds_no_room_anywhere_is_lost_and_says_where(rows, store, tracking, monkeypatch):
    monkeypatch.setattr(job_module, "row_of", _full("/"))
    found, ended = rows
    with pytest.raises(RowLost, match="No space left on device") as lost:
        found.finish(0, [], None)
    assert str(tracking.root) in str(lost.value) and tempfile.gettempdir() in str(lost.value)
    assert ended == [str(lost.value)]
    (run,) = children(store, found.runs[0].sweep_id)
    assert (run.info.status, run.data.tags["error"]) == ("FAILED", str(lost.value))


def test_after_the_first_lost_row_nothing_more_is_measured(swept, new_store, monkeypatch):
    begun = []

    def lose(design, *_):
        begun.append(design)
        raise RowLost("its row could neither be written nor logged")

    monkeypatch.setattr(run_module, "run_design", lose)
    root = new_store()
    done = swept("hw=fusion,identity", "protocol.side_by_side=false", "sweep_name=full", f"tracking.root={root}")
    assert (done.returncode, len(begun)) == (1, 1)
    assert "Stopped: results can't be stored." in done.stdout
    assert harness.load("full", str(root)).empty


def test_reading_a_runs_files_leaves_none_among_the_temporary_ones(store, tmp_path_factory, monkeypatch):
    temporary = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    run_id = start_sweep(store, "read", {}, {})
    log_text(store, run_id, "details.json", '{"a": 1}')
    files = _StoreFiles(store.uri)
    assert files.json(run_id, "details.json") == {"a": 1}
    assert files.samples(run_id) is None
    assert list(temporary.iterdir()) == []

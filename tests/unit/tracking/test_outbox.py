"""A row that can't be logged now waits and arrives later: once, whole, with exactly the numbers that were measured."""

from __future__ import annotations

import errno
import itertools
import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.results.row import QuartetRecord
from harness.tracking import outbox as outbox_module
from harness.tracking.outbox import PARCEL, RowLost, begin, deliver, hand_over, outbox_of
from harness.tracking.runs import children, start_sweep


@pytest.fixture
def outbox(store, tracking):
    return outbox_of(store, tracking.root)


@pytest.fixture
def sweep(store) -> str:
    return start_sweep(store, "demo", {}, {})


@pytest.fixture
def row(tmp_path) -> QuartetRecord:
    samples = tmp_path / "samples.parquet"
    samples.write_bytes(b"every sample")
    return QuartetRecord(
        params={"hw": "fp16"},
        metrics={"interaction/factor": 1.0123456789012345, "absent": float("nan")},
        tags={"verdict": "independent", "converged": True},
        artifacts={"samples.parquet": samples, "figures/quartet.png": samples},
        description="**Independent**",
    )


@contextmanager
def locked(tracking) -> Iterator[None]:
    """Hold the database as another process would that hangs in the middle of a write."""
    other = sqlite3.connect(Path(tracking.root) / "mlflow.db")
    other.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        other.close()


@pytest.fixture
def impatient(monkeypatch):
    """Let a locked database be given up at once."""
    monkeypatch.setattr("harness.tracking.store._REACH_TIMEOUT_S", 0.1)


def check_whole(store, sweep: str, row: QuartetRecord) -> None:
    (run,) = children(store, sweep)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "grouped x fp16"
    assert run.data.params == {"arch": "grouped", "hw": "fp16"}
    assert run.data.metrics == {"interaction/factor": row.metrics["interaction/factor"]}
    assert run.data.tags.items() >= {"gpu": "none", "verdict": "independent", "converged": "True"}.items()
    assert "error" not in run.data.tags
    found = {file.path for file in store.client().list_artifacts(run.info.run_id)}
    assert found == {"samples.parquet", "figures"}
    path = store.client().download_artifacts(run.info.run_id, "figures/quartet.png")
    assert Path(path).read_bytes() == b"every sample"


def test_with_the_store_there_nothing_waits(store, sweep, outbox, row):
    quartet = begin(outbox, sweep, "grouped x fp16", {"arch": "grouped"}, {"gpu": "none"})
    assert hand_over(outbox, quartet, row) is None
    assert list(outbox.folder.iterdir()) == []
    check_whole(store, sweep, row)


def test_a_row_is_on_disk_before_the_store_is_asked_for_anything(sweep, outbox, row, monkeypatch):
    quartet = begin(outbox, sweep, "grouped x fp16", {"arch": "grouped"}, {"gpu": "none"})
    found = []
    monkeypatch.setattr(outbox_module, "_log_row", lambda *_: found.extend(outbox.folder.glob(f"*/{PARCEL}")))
    assert hand_over(outbox, quartet, row) is None
    assert len(found) == 1


@pytest.mark.parametrize("write", range(1, 6))
def test_a_process_that_dies_at_any_write_to_the_store_leaves_a_row_that_the_next_one_delivers(
    store, sweep, outbox, row, dies_at_write, write
):
    quartet = begin(outbox, sweep, "grouped x fp16", {"arch": "grouped"}, {"gpu": "none"})
    names = ("log_batch", "log_artifact", "set_terminated", "get_run")
    with dies_at_write(write, names, KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        hand_over(outbox, quartet, row)
    assert deliver(outbox) == []
    check_whole(store, sweep, row)
    assert list(outbox.folder.iterdir()) == []


def test_a_row_that_arrived_before_its_process_died_is_not_written_again(store, sweep, outbox, row, monkeypatch):
    """The row's folder is still there, as if the process had died before it could remove it."""
    quartet = begin(outbox, sweep, "grouped x fp16", {"arch": "grouped"}, {"gpu": "none"})
    with monkeypatch.context() as dying, pytest.raises(KeyboardInterrupt):
        dying.setattr(outbox_module.shutil, "rmtree", _die_at_the_rows_folder)
        hand_over(outbox, quartet, row)
    before = everything(store, sweep)
    assert len(list(outbox.folder.glob(f"*/{PARCEL}"))) == 1
    assert deliver(outbox) == []
    assert everything(store, sweep) == before
    assert list(outbox.folder.iterdir()) == []


def test_a_second_delivery_of_a_whole_row_changes_nothing_in_the_store(store, sweep, outbox, row, monkeypatch):
    """The run's end is taken back, so that everything is written twice; each metric still has one value."""
    quartet = begin(outbox, sweep, "grouped x fp16", {"arch": "grouped"}, {"gpu": "none"})
    with monkeypatch.context() as dying, pytest.raises(KeyboardInterrupt):
        dying.setattr(outbox_module.shutil, "rmtree", _die_at_the_rows_folder)
        hand_over(outbox, quartet, row)
    before = everything(store, sweep)
    store.client().update_run(quartet.run_id, status="RUNNING")
    assert deliver(outbox) == []
    assert everything(store, sweep) == before


def everything(store, sweep: str) -> list[object]:
    """Return what the store holds of a sweep's runs: values, times, histories of metrics."""
    client = store.client()
    runs = children(store, sweep)
    histories = [list(client.get_metric_history(run.info.run_id, name)) for run in runs for name in run.data.metrics]
    return [[run.to_dictionary() for run in runs], [[vars(point) for point in points] for points in histories]]


_REMOVE = shutil.rmtree


def _die_at_the_rows_folder(folder: Path | str, **how) -> None:
    if len(Path(folder).name) == 32:
        raise KeyboardInterrupt
    _REMOVE(folder, **how)


@pytest.mark.parametrize("since", ["before the quartet began", "while it was measured"])
def test_a_store_that_is_locked_meanwhile_gets_the_row_later_and_once(
    store, sweep, tracking, outbox, row, since, impatient
):
    if since == "while it was measured":
        quartet = begin(outbox, sweep, "grouped x fp16", {"arch": "grouped"}, {"gpu": "none"})
    with locked(tracking):
        if since == "before the quartet began":
            quartet = begin(outbox, sweep, "grouped x fp16", {"arch": "grouped"}, {"gpu": "none"})
        assert hand_over(outbox, quartet, row) is None
        (waiting,) = deliver(outbox)
        assert waiting.run_name == "grouped x fp16"
        assert "locked" in waiting.reason
    row.artifacts["samples.parquet"].unlink()  # as the job's temporary folder is
    assert deliver(outbox) == []
    assert deliver(outbox) == []
    check_whole(store, sweep, row)
    assert list(outbox.folder.iterdir()) == []


@pytest.mark.parametrize("write", range(1, 7))
def test_a_delivery_that_broke_off_at_any_write_is_done_again_and_gives_one_whole_row(
    store, sweep, outbox, row, monkeypatch, dies_at_write, write
):
    """The n-th call that writes to the store is the last thing the process does."""
    with monkeypatch.context() as away:
        away.setattr(outbox_module, "check_there", _refuse)
        quartet = begin(outbox, sweep, "grouped x fp16", {"arch": "grouped"}, {"gpu": "none"})
        assert hand_over(outbox, quartet, row) is None
    names = ("create_run", "log_batch", "log_artifact", "set_terminated")
    with dies_at_write(write, names, KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        deliver(outbox)
    assert deliver(outbox) == []
    check_whole(store, sweep, row)


def _refuse(uri: str) -> None:
    raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")


@pytest.mark.parametrize("what", ["a number", "a file"])
def test_a_row_that_was_damaged_while_it_waited_is_told_and_never_logged(store, sweep, outbox, row, monkeypatch, what):
    with monkeypatch.context() as away:
        away.setattr(outbox_module, "check_there", _refuse)
        hand_over(outbox, begin(outbox, sweep, "grouped x fp16", {}, {}), row)
    (folder,) = (path for path in outbox.folder.iterdir() if path.is_dir())
    if what == "a number":
        parcel = json.loads((folder / PARCEL).read_text())
        parcel["content"]["metrics"]["interaction/factor"] = 2.0
        (folder / PARCEL).write_text(json.dumps(parcel))
    else:
        (folder / "0.parquet").write_bytes(b"every sampl_")
    (waiting,) = deliver(outbox)
    assert "changed or damaged while it waited" in waiting.reason
    assert children(store, sweep) == []


def test_a_row_that_can_neither_be_logged_nor_kept_is_a_failed_quartet(store, sweep, outbox, row, monkeypatch):
    """As on a full disk that holds store and outbox both."""

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    quartet = begin(outbox, sweep, "grouped x fp16", {}, {})
    with monkeypatch.context() as disk:
        disk.setattr(outbox_module.shutil, "copyfile", full)
        disk.setattr("mlflow.MlflowClient.log_artifact", full)
        with pytest.raises(RowLost) as lost:
            hand_over(outbox, quartet, row)
    reason = str(lost.value)
    assert reason.count("No space left on device") == 2
    assert "\n" not in reason
    (run,) = children(store, sweep)
    assert (run.info.status, run.data.tags["error"]) == ("FAILED", reason)
    assert run.data.metrics == {}
    assert not list(outbox.folder.glob("*"))


def test_a_row_that_the_store_refuses_is_failed_with_its_reason_and_does_not_wait(store, sweep, outbox):
    quartet = begin(outbox, sweep, "odd", {}, {})
    assert hand_over(outbox, quartet, QuartetRecord(metrics={"no such name?": 1.0})) is not None
    (run,) = children(store, sweep)
    assert run.info.status == "FAILED"
    assert "the store refused the row" in run.data.tags["error"]
    assert list(outbox.folder.iterdir()) == []


def test_a_secret_in_a_reason_is_not_kept(store, sweep, outbox, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "s3cr3t-value")
    hand_over(outbox, begin(outbox, sweep, "odd", {}, {}), QuartetRecord(), "FAILED", "401 for s3cr3t-value")
    (run,) = children(store, sweep)
    assert run.data.tags["error"] == "401 for ***"


def test_a_store_that_does_not_answer_is_asked_once_a_round_and_more_and_more_seldom(sweep, outbox, row, monkeypatch):
    """Fifty rows waited for five seconds each, after every quartet."""
    asked, clock = [], [0.0]

    def away(*_):
        asked.append(clock[0])
        clock[0] += 5.0
        raise ConnectionError("no answer")

    monkeypatch.setattr(outbox_module, "check_there", away)
    monkeypatch.setattr(outbox_module.time, "monotonic", lambda: clock[0])
    for number in range(50):
        quartet = begin(outbox, sweep, f"quartet {number}", {}, {})
        assert hand_over(outbox, quartet, row) is None
        assert len(deliver(outbox, at_once=False)) == number + 1
        clock[0] += 20.0  # of measuring
    waits = [after - before - 5.0 for before, after in itertools.pairwise(asked)]
    assert len(asked) <= outbox_module.SPENT_AT_MOST_S / 5.0
    assert waits == sorted(waits) and waits[0] >= 10.0 and waits[-1] >= 100.0
    assert len(deliver(outbox)) == 50  # at the end it is asked once more, whatever was spent
    monkeypatch.undo()
    assert deliver(outbox) == []


def test_one_damaged_row_does_not_hold_up_the_others(store, sweep, outbox, row, tracking, impatient):
    quartets = [begin(outbox, sweep, f"quartet {number}", {}, {}) for number in range(3)]
    with locked(tracking):
        for quartet in quartets:
            assert hand_over(outbox, quartet, row) is None
    damaged = sorted(outbox.folder.glob(f"*/{PARCEL}"))[0]
    damaged.write_text(damaged.read_text().replace("quartet", "trio"))
    assert len(deliver(outbox)) == 1
    assert sum(run.info.status == "FINISHED" for run in children(store, sweep)) == 2

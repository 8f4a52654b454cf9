"""Opening the store: where it is, that it is made once and whole, and that a bad one is refused in one line."""

import multiprocessing
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from harness.config import TrackingConfig
from harness.system.errors import UserError
from harness.tracking.store import Store, open_store, resolve_uri


def refusal(cfg: TrackingConfig) -> str:
    started = time.monotonic()
    with pytest.raises(UserError) as caught:
        open_store(cfg)
    assert time.monotonic() - started < 15
    assert 1 <= len(str(caught.value).splitlines()) <= 2
    return str(caught.value)


def everything_under(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_the_uri_is_the_configs_then_the_environments_then_sqlite_under_root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert resolve_uri(None, "mlruns") == (f"sqlite:///{tmp_path}/mlruns/mlflow.db", tmp_path / "mlruns")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://from-environment")
    assert resolve_uri(None, "mlruns") == ("http://from-environment", None)
    assert resolve_uri("sqlite:///mine.db", "mlruns") == (f"sqlite:///{tmp_path}/mine.db", None)


def _open(cfg: TrackingConfig) -> Store:
    return open_store(cfg)


@pytest.mark.minutes
@pytest.mark.spawned
def test_two_processes_that_open_a_fresh_store_at_once_get_the_same_whole_one(fresh):
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        first, second = pool.map(_open, [fresh, fresh], chunksize=1)
    assert first == second
    root = Path(fresh.root)
    assert everything_under(root) <= {"mlflow.db", "artifacts", ".mlflow.db.lock"}
    experiment = first.client().get_experiment(first.experiment_id)
    assert experiment.name == "harness"
    assert experiment.artifact_location == str(root / "artifacts")


def test_opening_again_finds_the_same_experiment_and_writes_nothing_in_the_current_folder(store, tracking):
    assert open_store(tracking) == store
    assert everything_under(Path.cwd()) - {"mlruns"} == {
        f"mlruns/{name}" for name in ("mlflow.db", "artifacts", ".mlflow.db.lock")
    }


def test_a_folder_below_a_file_is_refused(fresh, tmp_path):
    (tmp_path / "file").touch()
    assert "Not a directory" in refusal(replace(fresh, root=str(tmp_path / "file" / "mlruns")))
    assert everything_under(tmp_path) == {"file"}


def test_a_root_that_is_a_file_is_refused(fresh, tmp_path):
    (tmp_path / "mlruns").write_text("not a folder")
    assert "mlruns" in refusal(replace(fresh, root=str(tmp_path / "mlruns")))
    assert (tmp_path / "mlruns").read_text() == "not a folder"


def test_a_failed_creation_leaves_nothing_behind(fresh, tmp_path, monkeypatch):
    import mlflow.store.tracking.sqlalchemy_store as module

    def full_disk(uri: str, artifacts: str) -> None:
        Path(uri.removeprefix("sqlite:///")).write_bytes(b"half a database")
        raise OSError("No space left on device")

    monkeypatch.setattr(module, "SqlAlchemyStore", full_disk)
    assert "No space left" in refusal(fresh)
    assert everything_under(tmp_path) == set()


def test_what_a_killed_creation_left_goes_at_the_next_start(fresh):
    root = Path(fresh.root)
    root.mkdir(parents=True)
    for name in (".mlflow.db.4711", ".mlflow.db.4711-journal", ".scratch-0123456789ab.lock"):
        (root / name).write_text("half")
    (root / ".scratch-0123456789ab").mkdir()
    (root / ".scratch-0123456789ab" / "plan.json").write_text("{}")
    open_store(fresh)
    assert {path.name for path in root.iterdir()} == {"mlflow.db", "artifacts", ".mlflow.db.lock"}


def test_a_corrupt_database_is_refused_and_kept(fresh):
    database = Path(fresh.root) / "mlflow.db"
    database.parent.mkdir(parents=True)
    database.write_bytes(b"this is no database" * 100)
    assert "not a database" in refusal(fresh)
    assert database.read_bytes() == b"this is no database" * 100


def test_a_locked_database_is_refused(store, tracking, monkeypatch):
    import sqlite3

    monkeypatch.setattr("harness.tracking.store._REACH_TIMEOUT_S", 0.2)
    other = sqlite3.connect(Path(tracking.root) / "mlflow.db")
    other.execute("BEGIN EXCLUSIVE")
    try:
        assert "locked" in refusal(tracking)
    finally:
        other.close()


def test_a_moved_store_is_refused_since_its_files_would_go_to_the_old_place(store, tracking, tmp_path):
    (tmp_path / "mlruns").rename(tmp_path / "moved")
    assert "was created elsewhere" in refusal(replace(tracking, root=str(tmp_path / "moved")))


def test_a_deleted_experiment_is_refused_with_what_to_do(store, tracking):
    store.client().delete_experiment(store.experiment_id)
    assert "tracking.experiment=" in refusal(tracking)


def test_a_server_that_does_not_answer_is_refused_quickly_without_its_password(fresh, monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@127.0.0.1:{port}")
    message = refusal(fresh)
    assert f"127.0.0.1:{port}" in message
    assert "secret" not in message


def test_a_password_in_the_config_is_refused_since_configs_are_kept_with_the_results(fresh, tmp_path):
    message = refusal(replace(fresh, uri="http://me:secret@127.0.0.1:1"))
    assert "MLFLOW_TRACKING_PASSWORD" in message
    assert "secret" not in message
    assert everything_under(tmp_path) == set()


def test_an_unknown_scheme_is_refused(fresh):
    assert "ftp://nowhere" in refusal(replace(fresh, uri="ftp://nowhere"))


def test_importing_track_does_not_import_mlflow():
    code = "import sys, harness.tracking; sys.exit(any(m in sys.modules for m in ('mlflow', 'pandas', 'torch')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

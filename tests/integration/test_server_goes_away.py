"""A tracking server that is down at the start, goes away in the middle, and comes back: nothing measured is lost."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from mlflow import MlflowClient

import harness
import warm_starts

pytestmark = pytest.mark.minutes

GRID = ("reference=engine", "engine=onnxruntime", "hw=identity", "arch=grouped,low_rank")
TOKEN = "s3cr3t-of-this-test"


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@contextmanager
def server(folder, port: int) -> Iterator[subprocess.Popen]:
    """Run a real MLflow server on a folder."""
    process = warm_starts.Popen(
        [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
         "--backend-store-uri", f"sqlite:///{folder}/server.db", "--artifacts-destination", str(folder / "artifacts")],
        cwd=folder, env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},  # processes that nobody asks
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
                break
            except OSError:
                time.sleep(0.2)
        yield process
    finally:
        stop(process)


def stop(process: subprocess.Popen) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="module")
def sweeps(command, port, empty_database, tmp_path_factory):
    """Return what three starts of one sweep printed: server down, gone in the middle, back; and the store's address."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copyfile(empty_database, folder / "server.db")
    uri = f"http://127.0.0.1:{port}"
    arguments, environment = command(*GRID, "sweep_name=away", f"tracking.root={folder / 'mlruns'}")
    environment = {**environment, "MLFLOW_TRACKING_URI": uri, "MLFLOW_TRACKING_TOKEN": TOKEN}
    printed = {}

    def run() -> subprocess.CompletedProcess:
        return warm_starts.run(arguments, cwd=folder, env=environment, timeout=300)

    printed["down"] = run()
    with server(folder, port) as process:
        middle = warm_starts.Popen(
            arguments, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        first = next(line for line in middle.stdout if line.startswith("[1/2]"))
        stop(process)
        output, errors = middle.communicate(timeout=300)
        printed["gone"] = subprocess.CompletedProcess(arguments, middle.returncode, first + output, errors)
    assert list((folder / "mlruns" / "outbox").glob("*/*/parcel.json"))
    with server(folder, port):
        printed["back"] = run()
        frame = harness.load("away", uri)
        client = MlflowClient(uri)
        texts = [str(client.get_run(run_id).to_dictionary()) for run_id in frame["run_id"]]
        for run_id in frame["run_id"]:
            path = client.download_artifacts(run_id, "config.yaml", str(tmp_path_factory.mktemp("artifacts")))
            with open(path) as handle:
                texts.append(handle.read())
    return printed, frame, texts, folder


def test_a_server_that_is_down_at_the_start_is_refused_before_any_work(sweeps):
    down = sweeps[0]["down"]
    assert (down.returncode, down.stdout) == (2, "")
    assert "no MLflow server answers" in down.stderr


def test_a_server_that_goes_away_in_the_middle_costs_no_measurement_and_no_wait_for_its_end(sweeps):
    gone = sweeps[0]["gone"]
    assert gone.returncode == 1
    assert "[2/2] low_rank x identity b2: done" in gone.stdout
    assert "low_rank x identity b2 is not logged yet" in gone.stdout
    assert "The tracking store is unreachable" in gone.stdout
    assert "the same command delivers what waits" in gone.stdout
    assert "Traceback" not in gone.stdout + gone.stderr


def test_when_it_is_back_the_same_command_delivers_and_measures_nothing_again(sweeps):
    printed, frame, _, folder = sweeps
    assert printed["back"].returncode == 0, printed["back"].stdout + printed["back"].stderr
    assert "2 of 2 quartets already measured" in printed["back"].stdout
    assert frame["status"].tolist() == ["FINISHED", "FINISHED"]
    assert frame["interaction/factor"].notna().all()
    assert not list((folder / "mlruns" / "outbox").glob("*/*/parcel.json"))


def test_the_token_of_the_server_is_nowhere_to_be_found(sweeps):
    printed, _, texts, folder = sweeps
    shown = [part for done in printed.values() for part in (done.stdout, done.stderr)]
    assert [text for text in (*shown, *texts) if TOKEN in text] == []
    held = [path for path in folder.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]
    assert held == []

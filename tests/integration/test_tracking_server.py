"""A real MLflow server, on PostgreSQL, with basic auth and TLS: rows get there from jobs in other processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import harness
from harness.config import TrackingConfig
from harness.results.row import QuartetRecord
from harness.system.errors import UserError
from harness.tracking import finish, finish_sweep, install_views, log_quartet, open_store, start_quartet, start_sweep

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "experiments" / "record_scale"))
from server import HAS_NGINX, HAS_POSTGRES, tracking_server

pytestmark = [
    pytest.mark.minutes,
    pytest.mark.skipif(not HAS_POSTGRES, reason="needs PostgreSQL's initdb and pg_ctl, and openssl"),
]
NGINX = pytest.param("nginx", marks=pytest.mark.skipif(not HAS_NGINX, reason="needs nginx"))


@pytest.fixture(scope="module", params=["uvicorn", NGINX])
def server(request, tmp_path_factory):
    """The server, with TLS of its own or behind nginx; its address and user are in the environment."""
    with (
        tracking_server(tmp_path_factory.mktemp("server"), request.param) as running,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in running.environment.items():
            patch.setenv(name, value)
        yield running


def test_a_row_with_its_files_comes_back_as_it_was_written(server, tmp_path, tmp_path_factory):
    store = open_store(TrackingConfig())
    assert store.uri.startswith("https://")
    assert install_views(store)
    samples = tmp_path / "samples.parquet"
    samples.write_bytes(bytes(range(256)) * 1000)
    sweep = start_sweep(store, "written", {}, {"jobs": 1})
    run = start_quartet(store, sweep, "a x b", {"arch": "a"}, {"gpu": "none"})
    metrics = {"interaction/factor": 1.0234375}
    log_quartet(store, run, QuartetRecord(metrics=metrics, artifacts={"samples.parquet": samples}))
    finish(store, run, "FINISHED")
    assert finish_sweep(store, sweep, 1) == {"FINISHED": 1}
    row = harness.load("written").iloc[0]
    assert (row["interaction/factor"], row["arch"], row["gpu"]) == (1.0234375, "a", "none")
    fetched = store.client().download_artifacts(run, "samples.parquet", str(tmp_path_factory.mktemp("fetched")))
    assert Path(fetched).read_bytes() == samples.read_bytes()


def test_whoever_is_not_let_in_is_told_so_in_one_line(server, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong")
    with pytest.raises(UserError, match="rejects this user; set MLFLOW_TRACKING_USERNAME"):
        open_store(TrackingConfig())


def test_an_authority_that_nobody_vouches_for_is_refused(server, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_SERVER_CERT_PATH")
    with pytest.raises(UserError, match="CERTIFICATE_VERIFY_FAILED"):
        open_store(TrackingConfig())


def test_a_sweep_whose_jobs_run_elsewhere_is_whole_on_the_server(server, command, tmp_path):
    arguments, environment = command(
        "hydra/launcher=submitit_local", "sweep_name=elsewhere", "arch=grouped", "hw=fusion", "reference=engine",
        "engine=onnxruntime", "protocol.seed=0,1", f"cache.shared=file://{tmp_path}/share",
    )  # fmt: skip
    done = subprocess.run(
        arguments, cwd=tmp_path, env={**environment, **server.environment}, capture_output=True, text=True, timeout=550
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert server.password not in done.stdout + done.stderr
    rows = harness.load("elsewhere")
    assert rows["status"].tolist() == ["FINISHED", "FINISHED"]
    assert rows[["interaction/factor", "interaction/p_holm"]].notna().all(axis=None)
    assert {path.name for path in tmp_path.iterdir()} <= {"share"}

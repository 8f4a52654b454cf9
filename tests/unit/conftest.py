"""A real sqlite store a test: made once by `open_store` (migrations take seconds), then copied."""

import dataclasses
import os
import shutil
from contextlib import contextmanager

import pytest
from mlflow import MlflowClient

from harness.config import TrackingConfig
from harness.tracking.store import DATABASE, Store, open_store


@pytest.fixture(scope="session")
def template(tmp_path_factory):
    """An empty database of this MLflow, without experiments of ours."""
    root = tmp_path_factory.mktemp("template") / "mlruns"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        store = open_store(TrackingConfig(root=str(root)))
    mlflow = store.client()
    mlflow.rename_experiment(store.experiment_id, "template")
    return root / DATABASE


@pytest.fixture
def tracking(template, tmp_path, monkeypatch) -> TrackingConfig:
    """The config of a store in `tmp_path/mlruns` whose database is there already."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "mlruns"
    root.mkdir()
    shutil.copyfile(template, root / DATABASE)
    return TrackingConfig(root=str(root))


@pytest.fixture
def store(tracking) -> Store:
    return open_store(tracking)


@pytest.fixture
def dies_at_write(monkeypatch):
    """Return a context: the n-th call of one of `names` of MLflow's client raises `error`; it gives the calls."""

    @contextmanager
    def dying(write, names, error):
        calls = []

        def counted(name, real):
            def call(*args, **options):
                calls.append(name)
                if len(calls) == write:
                    raise error
                return real(*args, **options)

            return call

        with monkeypatch.context() as patch:
            for name in names:
                patch.setattr(MlflowClient, name, counted(name, getattr(MlflowClient, name)))
            yield calls

    return dying


@pytest.fixture
def fresh(tmp_path, monkeypatch) -> TrackingConfig:
    """The config of a store that does not exist yet, under `tmp_path`."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    return dataclasses.replace(TrackingConfig(), root=os.path.join(tmp_path, "new", "mlruns"))

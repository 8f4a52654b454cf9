"""A real sqlite store a test: a copy of an empty one."""

import dataclasses
import os
import shutil
from contextlib import contextmanager

import pytest
from mlflow import MlflowClient

from harness.config import TrackingConfig
from harness.tracking.store import DATABASE, Store, open_store


@pytest.fixture
def tracking(empty_database, tmp_path, monkeypatch) -> TrackingConfig:
    """The config of a store in `tmp_path/mlruns` whose database is there already."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "mlruns"
    root.mkdir()
    shutil.copyfile(empty_database, root / DATABASE)
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

"""Addresses of no store: each is one line before anything is measured, where it was found out at the sweep's end."""

from __future__ import annotations

import pytest

from harness.system.errors import UserError
from harness.tracking.store import resolve_uri

FILE = "sqlite:///FOLDER/mlflow.db"


@pytest.mark.parametrize(
    ("uri", "right"),
    [
        ("sqlite://", FILE),
        ("sqlite:///", FILE),
        ("sqlite:///:memory:", FILE),
        ("sqlite:///file::memory:?cache=shared&uri=true", FILE),
        ("sqlite+pysqlite://", FILE),
        ("sqlite+pysqlite:///runs.db", FILE),
        ("sqlite:runs.db", FILE),
        ("sqlite://runs.db", FILE),
        ("sqlite:///runs.db?mode=ro", FILE),
        ("", "tracking.root"),
        ("  ", "tracking.root"),
        ("runs", "tracking.root=FOLDER"),
        ("/srv/runs", "tracking.root=FOLDER"),
        ("file:///srv/runs", "http"),
        ("ftp://nowhere", "http"),
    ],
)
def test_what_is_no_stores_address_is_refused_with_what_would_be(uri, right):
    with pytest.raises(UserError) as caught:
        resolve_uri(uri)
    assert right in str(caught.value) and uri.strip() in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "uri", ["http://host:5000", "https://host", "postgresql+psycopg://host/runs", "mysql://host/runs", "databricks"]
)
def test_an_address_that_mlflow_knows_is_left_as_it_is(uri):
    assert resolve_uri(uri) == (uri, None)


def test_a_wrong_address_in_the_environment_is_called_by_its_name(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite://")
    with pytest.raises(UserError, match=r"^MLFLOW_TRACKING_URI=sqlite:// is a database in memory"):
        resolve_uri(None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")  # as good as unset
    assert resolve_uri(None, "mlruns")[1] is not None

"""Import MLflow quietly and turn its failures into one line: the one place that decides how it is loaded."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from harness.system.errors import UserError, kind_and_first_line
from harness.system.secrets import redacted

if TYPE_CHECKING:
    from mlflow import MlflowClient

# Read by MLflow while it is imported, so they are set before. The telemetry thread would disturb latencies; a
# tracking server that is away must fail a quartet within seconds (MLflow's defaults: 120 s, 7 retries).
_ENVIRONMENT = {
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # two lines a run, into the progress view
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",  # two lines a file, into the report
    "GIT_PYTHON_REFRESH": "quiet",
}


def quiet_environment() -> None:
    """Set MLflow's environment variables, keeping what the user has set."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # Hydra sets the root logger to INFO, where alembic would print every migration of a fresh database.
    logging.getLogger("alembic").setLevel(logging.WARNING)


def client(uri: str) -> MlflowClient:
    """Return a client of `uri`; MLflow's global tracking URI stays untouched."""
    quiet_environment()
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def shown(uri: str) -> str:
    """Return `uri` for a message: without the password it may hold."""
    return redacted(uri)


@contextmanager
def as_user_error(uri: str, doing: str) -> Iterator[None]:
    """Turn whatever MLflow, SQLAlchemy or the file system raises inside into a one-line `UserError`."""
    try:
        with quietly():
            yield
    except UserError:
        raise
    except Exception as error:
        if re.search(r"error code 40[13]\b", str(error)):
            raise UserError(
                f"can't {doing} the tracking store {shown(uri)}: the server does not let this user in; set "
                "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or ~/.mlflow/credentials."
            ) from error
        reason = redacted(kind_and_first_line(error)[:220])
        raise UserError(f"can't {doing} the tracking store {shown(uri)}: {reason}") from error


@contextmanager
def quietly() -> Iterator[None]:
    """Keep MLflow's logger silent inside: it writes a traceback of its own for each error of a database or a server."""
    logger = logging.getLogger("mlflow")
    level = logger.level
    try:
        logger.setLevel(logging.CRITICAL + 1)
        yield
    finally:
        logger.setLevel(level)

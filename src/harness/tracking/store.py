"""Find, open and reach the tracking store: the one place that imports MLflow and turns its failures into one line.

A store is opened once, before any job: processes that create one database together break it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import sqlite3
import ssl
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from harness.system.errors import UserError, kind_and_first_line, of_the_system
from harness.system.files import remove_left_scratch
from harness.system.secrets import holds_password, redacted, redacted_address

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow import MlflowClient

    from harness.config import TrackingConfig


DATABASE = "mlflow.db"
ARTIFACTS = "artifacts"
_SQLITE = "sqlite:///"
_NOT_IN_AN_ADDRESS = re.compile(r"\?|%[0-9A-Fa-f]{2}")  # what SQLAlchemy cuts off or decodes, whatever we quote
_SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql", "databricks")  # and those of MLflow's plug-ins
_REACH_TIMEOUT_S = 5.0
_LOCK_TIMEOUT_S = 120.0  # making a database takes some seconds; more means that its maker hangs


@dataclass(frozen=True)
class Store:
    """An open store: plain data, so that it travels to worker processes."""

    uri: str
    experiment_id: str
    experiment: str
    root: Path | None  # folder of the embedded store; None where `uri` was given

    def client(self) -> MlflowClient:
        """Return an MLflow client of this store."""
        return client(self.uri)


def resolve_uri(uri: str | None = None, root: str | Path = "mlruns") -> tuple[str, Path | None]:
    """Return the tracking URI and, if the store is the embedded one, its absolute folder.

    In this order: `uri`, the environment's MLFLOW_TRACKING_URI, sqlite under `root`. A relative sqlite path
    is made absolute against the current folder, since jobs may run in another one.

    Raises:
        UserError: the address can't belong to a store that outlives this process.

    """
    if uri is not None and not uri.strip():
        raise UserError("tracking.uri is empty: leave it out for the embedded store below tracking.root.")
    given = uri or os.environ.get("MLFLOW_TRACKING_URI")
    if given:
        _check_address("tracking.uri" if uri else "MLFLOW_TRACKING_URI", given)
        database = sqlite_path(given)
        return (given if database is None else f"{_SQLITE}{database}"), None
    folder = Path(root).expanduser().absolute()
    if (met := _NOT_IN_AN_ADDRESS.search(str(folder))) is not None:
        raise UserError(
            f"tracking.root={folder}: {met[0]} means something else in a database's address; "
            "choose a folder without it."
        )
    return f"{_SQLITE}{folder / DATABASE}", folder


def _check_address(option: str, uri: str) -> None:
    """Raise UserError for an address of no store: in memory, of a scheme that nobody knows, or a folder."""
    scheme, is_address, rest = uri.partition("://")
    kind = scheme.partition("+")[0].partition(":")[0]  # postgresql+psycopg: a driver is the user's choice
    start = f"{option}={shown(uri)}"
    if kind == "sqlite":
        if rest.strip("/") == "" or ":memory:" in rest:
            raise UserError(
                f"{start} is a database in memory, which ends with its process: name a file, {_SQLITE}FOLDER/mlflow.db."
            )
        if not uri.startswith(_SQLITE) or _NOT_IN_AN_ADDRESS.search(rest):
            raise UserError(f"{start} is not the address of a file: write {_SQLITE}FOLDER/mlflow.db, without ? and %.")
    elif not is_address and kind != "databricks":
        raise UserError(f"{start} is not an address: a folder is tracking.root=FOLDER, a server is http://HOST:PORT.")
    elif kind not in _SCHEMES and kind not in {entry.name for entry in entry_points(group="mlflow.tracking_store")}:
        raise UserError(f"{start}: MLflow has no store of that scheme; it knows {', '.join(_SCHEMES)}.")


def sqlite_path(uri: str) -> Path | None:
    """Return the absolute path of a sqlite URI's database, None for another URI."""
    return Path(uri.removeprefix(_SQLITE)).absolute() if uri.startswith(_SQLITE) else None


def scratch_place(store: Store) -> Path:
    """Return where files lie on their way to a store: beside an embedded one, else among the temporary files."""
    database = sqlite_path(store.uri)
    return database.parent if database is not None else Path(tempfile.gettempdir())


def open_store(cfg: TrackingConfig) -> Store:
    """Create the database and the experiment where they don't exist yet, and return the store.

    Raises:
        UserError: the store can't be made, reached or written. Nothing half-made is left behind.

    """
    if cfg.uri and holds_password(cfg.uri):
        raise UserError(
            f"tracking.uri={shown(cfg.uri)} holds a password, and configs are stored with the results: leave it out "
            "and set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, in the "
            "environment."
        )
    uri, root = resolve_uri(cfg.uri, cfg.root)
    quiet_environment()
    database = sqlite_path(uri)
    if database is None:
        check_reachable(uri)
        with as_user_error(uri, "open"):
            return Store(uri, _experiment(uri, cfg.experiment, None), cfg.experiment, None)
    artifacts = database.parent / ARTIFACTS
    with as_user_error(uri, "open"), _made_folders(artifacts), _locked(database):
        _check_folder_writable(artifacts)
        _remove_leftovers(database)
        if database.exists():
            check_writable(database)
        else:
            _create_database(database, artifacts)
        experiment_id = _experiment(uri, cfg.experiment, artifacts)
        if root is not None:
            _check_not_moved(uri, experiment_id, artifacts)
        return Store(uri, experiment_id, cfg.experiment, root)


def existing_uri(uri: str | None = None, root: str | Path = "mlruns") -> str:
    """Return the tracking URI of an existing store: reading must not create one.

    Raises:
        UserError: the sqlite database does not exist.

    """
    address, _ = resolve_uri(uri, root)
    database = sqlite_path(address)
    if database is not None and not database.is_file():
        raise UserError(f"nothing measured yet: run `make demo` (there is no tracking store {database})")
    return address


def find_store(cfg: TrackingConfig) -> Store:
    """Return the store if it is there, without changing it.

    Raises:
        UserError: there is no store, it can't be read or reached, or it lacks the experiment.

    """
    uri = existing_uri(cfg.uri, cfg.root)
    quiet_environment()
    check_reachable(uri)
    with as_user_error(uri, "read"):
        found = client(uri).get_experiment_by_name(cfg.experiment)
    if found is None:
        raise UserError(f"nothing measured yet: run `make demo` (no experiment {cfg.experiment!r} in {shown(uri)})")
    return Store(uri, str(found.experiment_id), cfg.experiment, resolve_uri(cfg.uri, cfg.root)[1])


def check_there(uri: str) -> None:
    """Raise UserError within seconds where a store is unreachable: a server that is down, a database that is locked.

    MLflow's own patience is half a minute for each call.
    """
    database = sqlite_path(uri)
    if database is None:
        check_reachable(uri)
    else:
        check_writable(database)


def check_writable(database: Path) -> None:
    """Take and give back the write lock of a sqlite database: it is one, and it can be written.

    Raises:
        UserError: it is none of these.

    """
    try:
        connection = sqlite3.connect(f"file:{quote(str(database))}?mode=rw", uri=True, timeout=_REACH_TIMEOUT_S)
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.rollback()
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise UserError(
            f"can't write the tracking store {database}: {error}\n"
            "Move the file away to start a new store, or choose another folder with tracking.root=FOLDER."
        ) from error


def _check_folder_writable(artifacts: Path) -> None:
    """Raise UserError unless files can be written where a run's files go; a database alone would keep half a row."""
    try:
        with tempfile.TemporaryFile(dir=artifacts):
            pass
    except OSError as error:
        raise UserError(
            f"can't write the tracking store's files in {artifacts}: {error.strerror}; "
            "choose another folder with tracking.root=FOLDER."
        ) from None


def _remove_leftovers(database: Path) -> None:
    """Remove what killed processes have left beside a database; its lock is held, so no process creates one now."""
    remove_left_scratch(database.parent)
    for path in database.parent.glob(f".{database.name}.*"):
        if path.suffix != ".lock":
            path.unlink(missing_ok=True)


def _create_database(database: Path, artifacts: Path) -> None:
    """Make the database under a temporary name and rename it: a reader never sees half of one."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    partial = database.with_name(f".{database.name}.{os.getpid()}")
    try:
        SqlAlchemyStore(f"{_SQLITE}{partial}", str(artifacts)).engine.dispose()
        partial.replace(database)
    finally:
        for leftover in database.parent.glob(f"{partial.name}*"):
            leftover.unlink()


def _experiment(uri: str, name: str, artifacts: Path | None) -> str:
    """Return the id of the experiment `name`, made if it is not there."""
    from mlflow.exceptions import MlflowException

    mlflow = client(uri)
    found = mlflow.get_experiment_by_name(name)
    if found is None:
        try:
            return str(mlflow.create_experiment(name, artifact_location=str(artifacts) if artifacts else None))
        except MlflowException:
            found = mlflow.get_experiment_by_name(name)  # another process was faster
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        raise UserError(
            f"experiment {name!r} was deleted in MLflow: restore it, or set tracking.experiment=ANOTHER_NAME"
        )
    return str(found.experiment_id)


def _check_not_moved(uri: str, experiment_id: str, artifacts: Path) -> None:
    """MLflow keeps absolute artifact paths: a store that was moved or copied would write to its old place."""
    location = client(uri).get_experiment(experiment_id).artifact_location
    if Path(location.removeprefix("file://")) != artifacts:
        raise UserError(
            f"the tracking store in {artifacts.parent} was created elsewhere: its files are in {location}\n"
            "Move it back, move it elsewhere (a new one is made), or choose another folder with tracking.root=FOLDER."
        )


def check_reachable(uri: str) -> None:
    """Ask an http server once, with a short timeout: MLflow's own client retries for minutes."""
    if not uri.startswith(("http://", "https://")):
        return
    try:
        address = f"{uri.rstrip('/')}/health"
        urllib.request.urlopen(address, timeout=_REACH_TIMEOUT_S, context=_tls_context()).close()
    except urllib.error.HTTPError:
        return  # something answers; whether it lets us in, MLflow's client will find out
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise UserError(
            f"no MLflow server answers at {shown(uri)}: {reason}\n"
            "Start it, or unset tracking.uri and MLFLOW_TRACKING_URI to use the embedded store."
        ) from error


def _tls_context() -> ssl.SSLContext:
    """Return what to trust: the system's authorities, or what MLflow's client is configured to trust."""
    certificate = os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH")
    context = ssl.create_default_context(cafile=certificate or None)
    if os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1"):
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


@contextmanager
def _made_folders(folder: Path) -> Iterator[None]:
    """Make `folder` with its parents; if what follows fails, remove those that were not there before.

    Only empty ones: another process may have made its store there in the meantime.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        with suppress(OSError):
            for path in missing:
                path.rmdir()
        raise


@contextmanager
def exclusive(store: Store) -> Iterator[None]:
    """Hold a store alone among the processes of this machine: for a moment in which two sweeps would cross.

    The lock is the operating system's, so a holder that dies in whatever way lets go.

    Raises:
        UserError: another process holds it for minutes.

    """
    from filelock import FileLock, Timeout

    database = sqlite_path(store.uri)
    name = hashlib.sha256(store.uri.encode()).hexdigest()[:16]
    elsewhere = Path(tempfile.gettempdir()) / f"harness-{os.getuid()}-store-{name}.lock"
    path = database.with_name(f".{database.name}.lock") if database is not None else elsewhere
    try:
        with FileLock(path, timeout=_LOCK_TIMEOUT_S):
            yield
    except Timeout:
        raise UserError(
            f"the tracking store {shown(store.uri)} is locked by another process; its lock is {path}"
        ) from None


@contextmanager
def _locked(database: Path) -> Iterator[None]:
    """Hold the lock file beside the database; it goes again where no database came of it."""
    from filelock import FileLock

    lock = database.with_name(f".{database.name}.lock")
    try:
        with FileLock(lock, timeout=_LOCK_TIMEOUT_S):
            yield
    finally:
        if not database.exists():
            lock.unlink(missing_ok=True)


# Read by MLflow while it is imported, so they are set before. The telemetry thread would disturb latencies; a
# tracking server that is down must fail a quartet within seconds (MLflow's defaults: 120 s, 7 retries).
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
    return redacted(redacted_address(uri))


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
                f"can't {doing} the tracking store {shown(uri)}: the server rejects this user; set "
                "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or ~/.mlflow/credentials."
            ) from error
        reason = redacted(kind_and_first_line(of_the_system(error))[:220])
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

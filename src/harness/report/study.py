"""What a report is made of: the rows of a sweep with their files, from the store or from a committed study's folder."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from harness.system.errors import UserError, first_line
from harness.tracking.load import find_sweep, load

if TYPE_CHECKING:
    import pandas

RESULTS = "results.csv"
_NEEDED = ("run_id", "run_name", "status", "model", "arch", "hw", "batch_size", "engine", "reference")


class Files(Protocol):
    """The files that quartets left; None or empty where there are none."""

    def samples(self, run_id: str) -> pandas.DataFrame | None:
        """Return the timed iterations of a quartet, all or (in long runs) every n-th."""

    def visits(self, run_id: str) -> pandas.DataFrame | None:
        """Return iterations and milliseconds of each whole visit; None where `samples` are complete."""

    def telemetry(self, run_id: str) -> pandas.DataFrame | None:
        """Return the readings taken between its slices."""

    def json(self, run_id: str, name: str) -> Mapping[str, Any]:
        """Return a JSON file of a quartet."""


@dataclass(frozen=True)
class Study:
    """A sweep, or what was committed of one."""

    name: str
    frame: pandas.DataFrame  # one row a quartet, as `harness.load` gives it
    command: str  # "" where it was not stored
    files: Files
    sweep_id: str = ""  # of the parent run; "" for a folder
    left_out: str = ""  # jobs that were not measured, and why, one a line


def open_study(what: str | None, uri: str | None = None) -> Study:
    """Return the study in a folder that holds results.csv, or a sweep of the store by name or run id (None: newest).

    Raises:
        UserError: there is neither.

    """
    if what and Path(what).is_dir():
        return _of_folder(Path(what))
    sweep = find_sweep(what, uri)
    frame = load(sweep.run_id, uri)
    return Study(sweep.name, frame, sweep.command, _StoreFiles(sweep.uri), sweep.run_id, sweep.left_out)


def _of_folder(folder: Path) -> Study:
    import pandas

    path = folder / RESULTS
    if not path.is_file():
        raise UserError(f"{folder} is not a study: it has no {RESULTS} (experiments/collect.py writes one)")
    try:
        frame = pandas.read_csv(path, dtype=str)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} can't be read as a table: {first_line(error)}") from error
    missing = [name for name in _NEEDED if name not in frame]
    if missing:
        raise UserError(f"{path} is not a table of quartets: it lacks the column {missing[0]!r}")
    for name in frame:  # metrics have a slash in their names, params and tags are text
        if "/" in str(name):
            frame[name] = pandas.to_numeric(frame[name], errors="coerce")
        else:
            frame[name] = frame[name].astype(object).where(frame[name].notna(), None)
    return Study(_name(folder.resolve()), frame, "", _FolderFiles(folder))


def _name(place: Path) -> str:
    """Return the path below experiments/, as the studies' pages call it; of a folder elsewhere the last two parts."""
    above = place.parent.parts
    if "experiments" not in above:
        return f"{place.parent.name}/{place.name}"
    return "/".join(place.parts[len(above) - above[::-1].index("experiments") :])


@dataclass(frozen=True)
class _FolderFiles:
    folder: Path

    def samples(self, run_id: str) -> pandas.DataFrame | None:
        return _rows(self.folder / "samples.parquet", run_id)

    def visits(self, run_id: str) -> pandas.DataFrame | None:
        return _rows(self.folder / "visits.parquet", run_id)

    def telemetry(self, run_id: str) -> pandas.DataFrame | None:
        return _rows(self.folder / "telemetry.parquet", run_id)

    def json(self, run_id: str, name: str) -> Mapping[str, Any]:
        path = self.folder / name
        found = dict(json.loads(path.read_text())) if path.is_file() else {}
        return (
            dict(found["runs"].get(run_id, {})) if "runs" in found else found
        )  # one file for all quartets, or one for each


@dataclass(frozen=True)
class _StoreFiles:
    uri: str

    def samples(self, run_id: str) -> pandas.DataFrame | None:
        return self._table(run_id, "samples.parquet")

    def visits(self, run_id: str) -> pandas.DataFrame | None:
        return self._table(run_id, "visits.parquet")

    def telemetry(self, run_id: str) -> pandas.DataFrame | None:
        return self._table(run_id, "telemetry.parquet")

    def json(self, run_id: str, name: str) -> Mapping[str, Any]:
        with self._file(run_id, name) as path:
            return dict(json.loads(path.read_text())) if path else {}

    def _table(self, run_id: str, name: str) -> pandas.DataFrame | None:
        import pandas

        with self._file(run_id, name) as path:
            return pandas.read_parquet(path) if path else None

    @contextmanager
    def _file(self, run_id: str, name: str) -> Iterator[Path | None]:
        """Give a run's file, for as long as it is read: MLflow leaves what it fetches among the temporary files."""
        with tempfile.TemporaryDirectory(prefix="harness-report-") as folder:
            yield self._fetched(run_id, name, folder)

    def _fetched(self, run_id: str, name: str, folder: str) -> Path | None:
        from mlflow.exceptions import MlflowException

        from harness.tracking.store import client

        try:
            path = Path(client(self.uri).download_artifacts(run_id, name, folder))
        except (MlflowException, OSError):  # a quartet that failed, or that only built, has fewer files
            return None
        return path if path.is_file() else None


def _rows(path: Path, run_id: str) -> pandas.DataFrame | None:
    whole = _table(path)
    if whole is None or "run_id" not in whole:
        return None
    rows = whole[whole["run_id"] == run_id]
    return rows if len(rows) else None


@lru_cache(maxsize=4)
def _table(path: Path) -> pandas.DataFrame | None:
    import pandas

    return pandas.read_parquet(path) if path.is_file() else None

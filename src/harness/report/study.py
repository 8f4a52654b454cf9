"""What a report is made of: the rows of a sweep with their files, from the store or from a committed study's folder."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from harness.report.table import plain_table
from harness.system.errors import UserError, first_line, kind_and_first_line, plain
from harness.tracking.load import find_sweep, load, run_file

if TYPE_CHECKING:
    import pandas

RESULTS = "results.csv"
_COLUMNS = {  # of files that were written since version 0.1.0 was begun
    "samples.parquet": ("cell", "boundary", "milliseconds"),
    "visits.parquet": ("cell", "boundary", "iterations", "milliseconds"),
    "telemetry.parquet": ("cell", "seconds"),
}
_POSITIVE = re.compile(r"^interaction/(?!accuracy)(\w+_)?(factor|low|high)$|^gain/|(^|/)(throughput|latency_ms)/")
_LIMIT = re.compile(r"(^interaction/|_)(\w+_)?(low|high)$")
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
    """Return the study in a folder, or a sweep of the store by name or run id (None: the newest).

    The folder holds results.csv itself, or in each of its folders.

    Raises:
        UserError: there is neither.

    """
    if what and Path(what).is_dir():
        study = _of_folder(Path(what))
    else:
        sweep = find_sweep(what, uri)
        files, frame = _StoreFiles(sweep.uri), load(sweep.run_id, uri)
        study = Study(plain(sweep.name), frame, plain(sweep.command), files, sweep.run_id, plain(sweep.left_out))
    _check_numbers(study)
    return replace(study, frame=plain_table(study.frame))


def _check_numbers(study: Study) -> None:
    """Raise UserError for a speed, a time, a gain or a factor that can't be one: negative, zero or infinite."""
    import pandas

    for name in (str(name) for name in study.frame):
        if not _POSITIVE.search(name) or not pandas.api.types.is_numeric_dtype(study.frame[name]):
            continue
        values = study.frame[name]
        # a limit of an interval that says nothing may be 0 or infinite
        wrong = values < 0 if _LIMIT.search(name) else (values <= 0) | (values == math.inf)
        for number in wrong[wrong].index:
            run = plain(str(study.frame.loc[number, "run_name"]))
            raise UserError(f"{study.name}: {name} of {run} is {values[number]:g}, which none can be.")


def _of_folder(folder: Path) -> Study:
    """Return the study of a folder: its own table of quartets, or those of its folders together."""
    import pandas

    places = [folder] if (folder / RESULTS).is_file() else _parts(folder)
    if not places:
        raise UserError(
            f"{folder} is not a study: it has no {RESULTS} (experiments/collect.py writes one), nor has a folder in it"
        )
    frames = {place: _quartets(place / RESULTS) for place in places}
    frame = pandas.concat(frames.values(), ignore_index=True)
    for name in frame:  # metrics have a slash in their names, params and tags are text
        if "/" in str(name):
            frame[name] = pandas.to_numeric(frame[name], errors="coerce")
        else:
            frame[name] = frame[name].astype(object).where(frame[name].notna(), None)
    place_of = {run_id: place for place, rows in frames.items() for run_id in rows["run_id"]}
    return Study(plain(_name(folder.resolve())), frame, "", _FolderFiles(place_of))


def _parts(folder: Path) -> list[Path]:
    """Return the folders within a folder that hold a table of quartets."""
    return [path.parent for path in sorted(folder.glob(f"*/{RESULTS}")) if is_of_quartets(path)]


def is_of_quartets(path: Path) -> bool:
    """Whether a file's table has a row a quartet: it has `run_id` (collect.py writes it), and no other table has.

    Only that is looked at: a table of quartets that lacks anything else can't be read, which is to be said and not
    passed over.
    """
    with path.open(encoding="utf-8", errors="replace") as file:
        return "run_id" in file.readline().strip().split(",")


def _quartets(path: Path) -> pandas.DataFrame:
    """Read a table of quartets as text; raise UserError for what is none."""
    import pandas

    try:
        frame = pandas.read_csv(path, dtype=str)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} can't be read as a table: {first_line(error)}") from error
    missing = [name for name in _NEEDED if name not in frame]
    if missing:
        raise UserError(f"{path} is not a table of quartets: it lacks the column {missing[0]!r}")
    return frame


def _name(place: Path) -> str:
    """Return the path below experiments/, as the studies' pages call it; of a folder elsewhere the last two parts."""
    above = place.parent.parts
    if "experiments" not in above:
        return f"{place.parent.name}/{place.name}"
    return "/".join(place.parts[len(above) - above[::-1].index("experiments") :])


@dataclass(frozen=True)
class _FolderFiles:
    place_of: Mapping[str, Path]  # run id -> the folder that its files are in

    def samples(self, run_id: str) -> pandas.DataFrame | None:
        return _rows(self.place_of[run_id] / "samples.parquet", run_id)

    def visits(self, run_id: str) -> pandas.DataFrame | None:
        return _rows(self.place_of[run_id] / "visits.parquet", run_id)

    def telemetry(self, run_id: str) -> pandas.DataFrame | None:
        return _rows(self.place_of[run_id] / "telemetry.parquet", run_id)

    def json(self, run_id: str, name: str) -> Mapping[str, Any]:
        path = self.place_of[run_id] / name
        found = _json(path) if path.is_file() else {}
        # one file for all quartets, or one for each
        return _mapping(_mapping(found["runs"], path).get(run_id, {}), path) if "runs" in found else found


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
        with run_file(self.uri, run_id, name) as path:
            return _json(path) if path else {}

    def _table(self, run_id: str, name: str) -> pandas.DataFrame | None:
        with run_file(self.uri, run_id, name) as path:
            return _parquet(path) if path else None


def _rows(path: Path, run_id: str) -> pandas.DataFrame | None:
    whole = _table(path)
    if whole is None or "run_id" not in whole:
        return None
    rows = whole[whole["run_id"] == run_id]
    return rows if len(rows) else None


@lru_cache(maxsize=4)
def _table(path: Path) -> pandas.DataFrame | None:
    return _parquet(path) if path.is_file() else None


def _parquet(path: Path) -> pandas.DataFrame:
    """Read a table of a quartet; raise UserError for what is none."""
    import pandas

    try:
        found = pandas.read_parquet(path)
    except Exception as error:  # of pyarrow, each damage has its own
        raise UserError(f"{path} can't be read as a table: {kind_and_first_line(error)[:200]}") from error
    needed = _COLUMNS.get(path.name, ())
    for name in needed:
        if name not in found:
            raise UserError(f"{path} lacks the column {name!r}: is it a file of a study?")
    if "milliseconds" in needed:
        times = found["milliseconds"]
        if not pandas.api.types.is_numeric_dtype(times) or not times.between(0, math.inf, inclusive="neither").all():
            raise UserError(f"{path} holds milliseconds that no iteration takes: all must be above 0.")
    return found


def _json(path: Path) -> dict[str, Any]:
    """Read a JSON file of a quartet; raise UserError for what is none."""
    try:
        return _mapping(json.loads(path.read_text(encoding="utf-8")), path)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} can't be read as JSON: {first_line(error)[:200]}") from error


def _mapping(found: Any, path: Path) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise UserError(f"{path} holds {type(found).__name__}, where names with values are expected")
    return found

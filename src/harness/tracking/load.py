"""Read a sweep back as a table: one row a quartet, exactly the values that MLflow holds."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config import HarnessConfig
from harness.results.metrics import declared
from harness.results.row import OF_SWEEPS, PARAMS, TAGS
from harness.stats.roles import ROLES, prefix_of
from harness.system.errors import UserError
from harness.tracking.runs import PARENT_TAG, search
from harness.tracking.store import DATABASE, as_user_error, client, existing_uri, quiet_environment, shown

if TYPE_CHECKING:
    import pandas
    from mlflow import MlflowClient
    from mlflow.entities import Run


@dataclass(frozen=True)
class SweepRun:
    """The parent run of a sweep."""

    run_id: str
    name: str
    command: str  # what started it
    uri: str
    left_out: str = ""  # jobs that were not measured, and why, one a line


def find_sweep(sweep: str | None = None, uri: str | None = None) -> SweepRun:
    """Return the parent run that `load` with the same arguments reads.

    Raises:
        UserError: there is no store, or no such sweep in it.

    """
    address = _address(uri)
    with as_user_error(address, "read"):
        mlflow = client(address)
        run = _find(mlflow, [experiment.experiment_id for experiment in mlflow.search_experiments()], sweep, address)
    tags = run.data.tags
    return SweepRun(
        str(run.info.run_id), str(run.info.run_name), tags.get("command", ""), address, tags.get("left_out", "")
    )


@dataclass(frozen=True)
class StoredQuartet:
    """One quartet's run: what `harness.load` gives of it, as a mapping without what is missing."""

    run_id: str
    name: str
    uri: str
    row: Mapping[str, Any]

    @contextmanager
    def file(self, name: str) -> Iterator[Path | None]:
        """Give one of its files for as long as it is read; None where it has no such file."""
        with run_file(self.uri, self.run_id, name) as path:
            yield path


@contextmanager
def run_file(uri: str, run_id: str, name: str) -> Iterator[Path | None]:
    """Give a run's file for as long as it is read: MLflow leaves what it fetches among the temporary files."""
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory(prefix="harness-") as folder:
        try:
            path = Path(client(uri).download_artifacts(run_id, name, folder))
        except (MlflowException, OSError):  # a quartet that failed, or that only built, has fewer files
            yield None
        else:
            yield path if path.is_file() else None


def find_quartet(run: str, uri: str | None = None) -> StoredQuartet:
    """Return the quartet that a text names: its run id or the beginning of one, its name, or its sweep's.

    Of several runs with one name the newest is meant; a sweep's name or id names its quartet if it has one that
    finished.

    Raises:
        UserError: there is no store, no such quartet in it, or several that could be meant.

    """
    address = _address(uri)
    with as_user_error(address, "read"):
        mlflow = client(address)
        experiments = [experiment.experiment_id for experiment in mlflow.search_experiments()]
        found = search(mlflow, experiments, "tags.kind = 'quartet'", newest_first=True)
        sweeps = search(mlflow, experiments, "tags.kind = 'sweep'", newest_first=True)
    return _stored(_one_of(run, found, sweeps, shown(address)), address)


_SHORTEST_PREFIX = 4  # characters of a run id


def _one_of(run: str, quartets: list[Run], sweeps: list[Run], store: str) -> Run:
    """Return the quartet that `run` names, both lists newest first; raise UserError as `find_quartet` does."""
    for quartet in quartets:
        if run == quartet.info.run_id:
            return quartet
    sweep = next((sweep for sweep in sweeps if run in (sweep.info.run_id, sweep.info.run_name)), None)
    if sweep is not None:
        named = [
            quartet
            for quartet in quartets
            if quartet.data.tags.get(PARENT_TAG) == sweep.info.run_id and quartet.info.status == "FINISHED"
        ]
        if not named:
            raise UserError(f"{run}: none of the quartets of this sweep has finished.")
    else:
        named = [quartet for quartet in quartets if quartet.info.run_name == run][:1]
        if not named and len(run) >= _SHORTEST_PREFIX:
            named = [quartet for quartet in quartets if str(quartet.info.run_id).startswith(run)]
    if len(named) == 1:
        return named[0]
    listed = ", ".join(f"{str(each.info.run_id)[:8]} ({each.info.run_name})" for each in (named or quartets)[:10])
    if named:
        raise UserError(f"{run} is several quartets: name one of {listed}.")
    raise UserError(f"no quartet {run!r} in {store}; the newest are: {listed or 'none'}.")


def _stored(run: Run, address: str) -> StoredQuartet:
    tags = {key: value for key, value in run.data.tags.items() if not key.startswith("mlflow.")}
    row = {**tags, **run.data.params, **run.data.metrics, "status": run.info.status}
    return StoredQuartet(str(run.info.run_id), str(run.info.run_name), address, row)


def load(sweep: str | None = None, uri: str | None = None) -> pandas.DataFrame:
    """Return one row a quartet of a sweep, oldest first.

    Args:
        sweep: a sweep's run id or its name (several of one name: the newest); None: the newest sweep of all.
        uri: a tracking URI, or a folder that holds an embedded store; None:
            MLFLOW_TRACKING_URI, else `mlruns`.

    Columns are `run_id`, `run_name`, `status`, `start_time` (UTC), then metrics (float), params and tags
    (text, as MLflow keeps them) by their plain names; MLflow's own tags are left out. Where a name is taken
    already, a metric, param or tag becomes `metrics.NAME`, `params.NAME`, `tags.NAME`, as in
    `mlflow.search_runs`. What a quartet lacks is NaN or None.

    Raises:
        UserError: there is no store, or no such sweep in it.

    """
    address = _address(uri)
    with as_user_error(address, "read"):
        mlflow = client(address)
        experiments = [experiment.experiment_id for experiment in mlflow.search_experiments()]
        parent = _find(mlflow, experiments, sweep, address)
        runs = search(mlflow, [parent.info.experiment_id], f"tags.`{PARENT_TAG}` = '{parent.info.run_id}'")
    return _table(runs)


def with_declared_columns(frame: pandas.DataFrame) -> pandas.DataFrame:
    """Return the table with every column that is declared, whatever was measured: NaN or None where no row has it.

    Those are the metrics, params and tags of `harness.results`, of each role that has them, and the options of all
    techniques, scenarios and the protocol.
    """
    import pandas

    rows = len(frame)
    numbers = {name: pandas.Series(float("nan"), frame.index) for name in _declared_metrics() if name not in frame}
    texts = {name: pandas.Series([None] * rows, frame.index, object) for name in _declared_texts() if name not in frame}
    return pandas.concat([frame, pandas.DataFrame({**numbers, **texts}, index=frame.index)], axis=1)


def _declared_metrics() -> list[str]:
    roles = {"cell": ROLES, "quartet": ("combined",)}  # a quartet's own have no role before them
    return [f"{prefix_of(role)}{name}" for metric in declared() for role in roles[metric.of] for name in metric.names]


def _declared_texts() -> list[str]:
    """Return the names of params and tags of a quartet, and of the options that are params."""
    config = HarnessConfig()
    groups: dict[str, Any] = {"protocol": config.protocol, "scenario": config.scenario}
    for family in ("arch", "hw"):
        techniques = getattr(config, family)
        groups |= {f"{family}.{option.name}": getattr(techniques, option.name) for option in fields(techniques)}
    named = [f"{group}.{option.name}" for group, options in groups.items() for option in fields(options)]
    # a switch is in the params `arch` and `hw`, the scenario's name in `scenario`
    options = [name for name in named if not name.endswith(".enabled") and name != "scenario.name"]
    return [*PARAMS, *options, *(name for name in TAGS if name not in OF_SWEEPS)]


def _address(uri: str | None) -> str:
    """Return the tracking URI of a store that is there; `uri` may name an embedded store's folder."""
    if uri and Path(uri).is_dir():
        uri = f"sqlite:///{Path(uri).absolute() / DATABASE}"
    quiet_environment()
    return existing_uri(uri)


def _find(mlflow: MlflowClient, experiments: list[str], sweep: str | None, address: str) -> Run:
    """Return the sweep's parent run."""
    sweeps = search(mlflow, experiments, "tags.kind = 'sweep'", newest_first=True)
    if not sweeps:
        raise UserError(f"no sweep in the tracking store {shown(address)} yet: run `make demo` first")
    for run in sweeps:
        if sweep is None or sweep in (run.info.run_id, run.info.run_name):
            return run
    names = ", ".join(dict.fromkeys(str(run.info.run_name) for run in sweeps[:50]))
    raise UserError(f"no sweep {sweep!r} in {shown(address)}; there are: {names[:300]}")


def _table(runs: list[Run]) -> pandas.DataFrame:
    import pandas

    metrics = _names(run.data.metrics for run in runs)
    params = _names(run.data.params for run in runs)
    tags = _names({key for key in run.data.tags if not key.startswith("mlflow.")} for run in runs)
    columns: dict[str, Any] = {
        "run_id": [run.info.run_id for run in runs],
        "run_name": [run.info.run_name for run in runs],
        "status": [run.info.status for run in runs],
        "start_time": pandas.to_datetime([run.info.start_time for run in runs], unit="ms", utc=True),
    }
    for name in metrics:
        values = [run.data.metrics.get(name, float("nan")) for run in runs]
        columns[f"metrics.{name}" if name in columns else name] = values
    for name in params:
        texts = [run.data.params.get(name) for run in runs]
        columns[f"params.{name}" if name in columns else name] = pandas.Series(texts, dtype=object)
    for name in tags:
        texts = [run.data.tags.get(name) for run in runs]
        columns[f"tags.{name}" if name in columns else name] = pandas.Series(texts, dtype=object)
    return pandas.DataFrame(columns)


def _names(groups: Any) -> list[str]:
    """Return the sorted union of the runs' keys."""
    return sorted(set().union(*groups))

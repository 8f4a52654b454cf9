"""Write a sweep and its quartets to MLflow: one parent run, a child run a quartet, from any process."""

from __future__ import annotations

import math
import re
import tempfile
import time
import uuid
from collections.abc import Container, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

    from harness.results.row import QuartetRecord
    from harness.stats.multiplicity import Correction
from harness.results.headline import outcome
from harness.system.counts import counted
from harness.system.files import scratch_folder
from harness.system.secrets import redacted
from harness.tracking.store import Store, quietly, scratch_place, sqlite_path

PARENT_TAG = "mlflow.parentRunId"
NOTE_TAG = "mlflow.note.content"
DELIVERY_TAG = "delivery"  # a key of ours: a run is found by it again where the answer to its creation was lost
# Limits of a server's API (mlflow.utils.validation, 3.17).
_PARAM_CHARACTERS = 6000
_TAG_CHARACTERS = 8000
_PER_BATCH = 100  # params or tags in one call
_METRICS_PER_BATCH = 1000 - 2 * _PER_BATCH  # a call holds at most 1000 entities in all
_ENDS = {"FINISHED": 2, "FAILED": 1, "KILLED": 1}  # of two runs of one key the one that got further is kept
_PAGE = 200  # runs: a busy server took more than 30 s, the client's patience, for 1000 with 160 metrics each


def now_ms() -> int:
    """Return the time as MLflow writes it."""
    return int(time.time() * 1000)


def start_sweep(store: Store, name: str, tags: Mapping[str, Any], params: Mapping[str, Any]) -> str:
    """Start the parent run of a sweep and return its id.

    By the store's times it starts after all others, even if the clock was set back: the newest sweep is the last.
    """
    newest_ms = max((int(run.info.start_time) for run in sweeps(store)), default=0)
    start_ms = max(now_ms(), newest_ms + 1)
    return _start(store, name, {**tags, "kind": "sweep"}, params, start_ms)


def log_text(store: Store, run_id: str, name: str, text: str) -> None:
    """Write a text as a file of a run; on its way it lies beside an embedded store, not among the temporary files."""
    with scratch_folder(scratch_place(store)) as folder:
        (folder / name).write_text(text, encoding="utf-8")
        store.client().log_artifact(run_id, str(folder / name))


def start_quartet(
    store: Store, sweep_id: str, run_name: str, params: Mapping[str, Any], tags: Mapping[str, Any]
) -> str:
    """Start a quartet's run as a child of `sweep_id`, also from another process, and return its id.

    The runs table cuts `run_name` at about 13 characters: put what tells it apart first.
    """
    return _start(store, run_name, {**tags, **_of_sweep(store, sweep_id), "kind": "quartet"}, params)


def _of_sweep(store: Store, sweep_id: str) -> dict[str, str]:
    """Return the tags that say which sweep a quartet is of: its id, and its name where the sweep is there."""
    name = ""
    with suppress(Exception):  # the store is unreachable, which creating the run will say
        name = str(store.client().get_run(sweep_id).info.run_name)
    return {PARENT_TAG: sweep_id, **({"sweep": name} if name else {})}


def log_quartet(store: Store, run_id: str, record: QuartetRecord, at_ms: int | None = None) -> None:
    """Write a quartet's artifacts, then its params, tags and metrics: numbers have their samples beside them.

    Metrics logged again for the same time (`at_ms`; None: now) change nothing.
    """
    mlflow = store.client()
    for name, path in record.artifacts.items():
        _log_artifact(mlflow, run_id, name, path)
    note = _addressed(record.description, run_id, record.artifacts)
    tags = {**record.tags, NOTE_TAG: note} if note else record.tags
    _log(mlflow, run_id, record.params, tags, record.metrics, at_ms)


def _addressed(markdown: str, run_id: str, artifacts: Container[str]) -> str:
    """Return a description whose pictures, named by their artifacts, have the addresses that MLflow's page asks for."""

    def address(found: re.Match[str]) -> str:
        if found[1] not in artifacts:
            return found[0]
        return f"](get-artifact?path={quote(found[1])}&run_uuid={run_id})"

    return re.sub(r"\]\(([^()\s]+)\)", address, markdown)


def log_family_verdict(
    store: Store, run_id: str, correction: Correction, p_adjusted: float, verdict: str, degraded: bool = False
) -> None:
    """Write to a finished quartet its p-value and verdict after a correction over its sweep, under that one's names.

    What a person reads of it, `outcome`, is the verdict after the correction from then on.
    """
    tags = {correction.tag: verdict, "outcome": outcome(verdict, degraded)}
    _log(store.client(), run_id, {}, tags, {correction.metric: p_adjusted})


def finish(store: Store, run_id: str, status: str, error: str | None = None, at_ms: int | None = None) -> None:
    """End a run as FINISHED, FAILED or KILLED, with the reason as its tag `error`.

    Raises:
        ValueError: another status, or one that is not FINISHED without a reason.

    """
    if status not in ("FINISHED", "FAILED", "KILLED"):
        raise ValueError(f"a run ends FINISHED, FAILED or KILLED, not {status!r}")
    if status != "FINISHED" and not error:
        raise ValueError(f"a run that is {status} says why")
    mlflow = store.client()
    if error:  # first the reason: a run must never be seen FAILED without one
        mlflow.set_tag(run_id, "error", _cut(error, _TAG_CHARACTERS))
    mlflow.set_terminated(run_id, status=status, end_time=at_ms)


def end_quartet(store: Store, run_id: str, status: str, error: str = "", at_ms: int | None = None) -> None:
    """End a quartet's run; one that is FINISHED after all loses the reason of an earlier end."""
    if status == "FINISHED" and "error" in store.client().get_run(run_id).data.tags:
        store.client().delete_tag(run_id, "error")
    finish(store, run_id, status, error, at_ms)


def finish_sweep(store: Store, sweep_id: str, jobs: int = 0) -> dict[str, int]:
    """End a sweep of `jobs` quartets and return how many of them ended in which status.

    FINISHED if there are quartets and all are FINISHED, else FAILED with the count as its `error`. A quartet
    that still runs has lost its process (this is called when no job is left): it is KILLED and says so.
    """
    counts = _end_children(store, sweep_id)
    total = max(jobs, sum(counts.values()))
    if total and counts.get("FINISHED") == total:
        finish(store, sweep_id, "FINISHED")
    else:
        lost = total - counts.get("FINISHED", 0)
        finish(
            store,
            sweep_id,
            "FAILED",
            f"{lost} of {counted(total, 'quartet')} failed" if total else "no quartet was run",
        )
    return counts


def end_killed(store: Store, sweep_id: str, reason: str) -> None:
    """End a sweep that was not run to its end as KILLED, whatever became of its quartets."""
    _end_children(store, sweep_id)
    finish(store, sweep_id, "KILLED", reason)


def _end_children(store: Store, sweep_id: str) -> dict[str, int]:
    """End the quartets of a sweep that nobody runs any more; return how many there are of each status."""
    counts: dict[str, int] = {}
    for run in _each_once(store, children(store, sweep_id)):
        status = run.info.status
        if status not in ("FINISHED", "FAILED", "KILLED"):
            finish(store, run.info.run_id, "KILLED", "its process ended before the quartet did")
            status = "KILLED"
        counts[status] = counts.get(status, 0) + 1
    return counts


def _each_once(store: Store, runs: Sequence[Run]) -> list[Run]:
    """Return the runs without those that a repeated request created late, which are deleted."""
    by_key: dict[str, Run] = {}
    for run in runs:
        key = run.data.tags.get(DELIVERY_TAG, run.info.run_id)
        if key in by_key:
            again = created_before(store, key)
            by_key[key] = next(candidate for candidate in (by_key[key], run) if candidate.info.run_id == again)
        else:
            by_key[key] = run
    return list(by_key.values())


def children(store: Store, sweep_id: str) -> list[Run]:
    """Return the runs of a sweep's quartets, oldest first, however many there are."""
    return search(store.client(), [store.experiment_id], f"tags.`{PARENT_TAG}` = '{sweep_id}'")


def take_back(store: Store, sweep_id: str, keys: Container[str]) -> dict[str, str | None]:
    """Delete the rows that a process which is gone had begun of the quartets of these keys.

    Return why each of those failed whose row had ended, None if it was FINISHED; {} where the store is unreachable.
    """
    ended: dict[str, str | None] = {}
    with suppress(Exception), quietly():
        for run in children(store, sweep_id):
            key, status = run.data.tags.get("quartet_key", ""), run.info.status
            if key in keys and status == "RUNNING":
                store.client().delete_run(run.info.run_id)
            elif key in keys:
                ended[key] = None if status == "FINISHED" else run.data.tags.get("error", status)
    return ended


def sweeps(store: Store) -> list[Run]:
    """Return the parent runs of all sweeps in the store's experiment, newest first."""
    return search(store.client(), [store.experiment_id], "tags.kind = 'sweep'", newest_first=True)


def move(store: Store, run_id: str, sweep_id: str, origin: str) -> None:
    """Make a quartet the child of another sweep, with a note of where it was measured."""
    mlflow = store.client()
    mlflow.set_tag(run_id, "adopted", origin)
    for name, value in _of_sweep(store, sweep_id).items():
        mlflow.set_tag(run_id, name, value)


def search(
    mlflow: MlflowClient, experiment_ids: list[str], filter_string: str, newest_first: bool = False
) -> list[Run]:
    """Return all runs that match, over as many pages as it takes."""
    order = ["attributes.start_time DESC" if newest_first else "attributes.start_time ASC"]
    runs: list[Run] = []
    token: str | None = None
    while True:
        page = mlflow.search_runs(experiment_ids, filter_string, max_results=_PAGE, order_by=order, page_token=token)
        runs.extend(page)
        token = page.token
        if not token:
            return runs


def _start(
    store: Store, name: str, tags: Mapping[str, Any], params: Mapping[str, Any], start_ms: int | None = None
) -> str:
    tags = {DELIVERY_TAG: uuid.uuid4().hex, **tags}
    run_id = _created(store, name, {key: _cut(value, _TAG_CHARACTERS) for key, value in tags.items()}, start_ms)
    _log(store.client(), run_id, params, {}, {})
    return run_id


def _created(store: Store, name: str, tags: Mapping[str, str], start_ms: int | None) -> str:
    """Create one run, however often the request is repeated on its way, and whether or not its answer arrives."""
    try:
        made = store.client().create_run(store.experiment_id, start_time=start_ms, run_name=name, tags=dict(tags))
    except Exception:
        found = created_before(store, tags[DELIVERY_TAG])
        if found is None:
            raise
        return found
    if sqlite_path(store.uri) is not None:  # no proxy in between could have repeated the request
        return str(made.info.run_id)
    return created_before(store, tags[DELIVERY_TAG]) or str(made.info.run_id)


def created_before(store: Store, delivery: str) -> str | None:
    """Return the run that was created under a key, None if there is none; delete what was created more than once."""
    runs = search(store.client(), [store.experiment_id], f"tags.`{DELIVERY_TAG}` = '{delivery}'")
    first, *others = sorted(runs, key=lambda run: (-_ENDS.get(run.info.status, 0), run.info.run_id)) or (None,)
    for duplicate in others:
        store.client().delete_run(duplicate.info.run_id)
    return None if first is None else str(first.info.run_id)


def _log(
    mlflow: MlflowClient,
    run_id: str,
    params: Mapping[str, Any],
    tags: Mapping[str, Any],
    metrics: Mapping[str, float],
    at_ms: int | None = None,
) -> None:
    """Log everything in as few calls as the API's limits allow: nearly always one."""
    from mlflow.entities import Metric, Param, RunTag

    at_ms = at_ms or now_ms()
    left_params = [Param(key, _cut(value, _PARAM_CHARACTERS)) for key, value in params.items()]
    left_tags = [RunTag(key, _cut(value, _TAG_CHARACTERS)) for key, value in tags.items()]
    left_metrics = [Metric(key, float(value), at_ms, 0) for key, value in metrics.items() if math.isfinite(value)]
    while left_params or left_tags or left_metrics:
        mlflow.log_batch(
            run_id,
            metrics=left_metrics[:_METRICS_PER_BATCH],
            params=left_params[:_PER_BATCH],
            tags=left_tags[:_PER_BATCH],
        )
        left_metrics = left_metrics[_METRICS_PER_BATCH:]
        left_params, left_tags = left_params[_PER_BATCH:], left_tags[_PER_BATCH:]


def _log_artifact(mlflow: MlflowClient, run_id: str, name: str, path: Path) -> None:
    """Log `path` under `name`: MLflow keeps the file's own name, so one that differs goes through a link."""
    folder, _, filename = name.rpartition("/")
    if filename == path.name:
        mlflow.log_artifact(run_id, str(path), folder or None)
        return
    with tempfile.TemporaryDirectory(dir=path.parent) as temporary:  # on the disk where there was room for it
        link = Path(temporary) / filename
        link.symlink_to(path.absolute())
        mlflow.log_artifact(run_id, str(link), folder or None)


def _cut(value: Any, characters: int) -> str:
    """Return `value` as text without secrets that fits MLflow's limit, with a mark where it was cut."""
    text = redacted(str(value))
    return text if len(text) <= characters else text[: characters - 1] + "…"

"""A quartet's row on its way to the store: what can't be logged now waits in a folder and is delivered later.

A tracking server that is down, a locked or full database costs no measurement: the row is written beside the store
(`tracking.root`/outbox), with its numbers and files, and delivered after the next quartet, at the end of the sweep, or
at the next start. A delivery that broke off is done again from its beginning and gives the same row.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from harness.results.row import QuartetRecord
from harness.system.cache import file_sha256, key_of
from harness.system.errors import CellError, UserError, first_line
from harness.system.secrets import redacted
from harness.tracking.client import quietly
from harness.tracking.runs import end_quartet, log_quartet, search, start_quartet
from harness.tracking.store import Store, check_there

FOLDER = "outbox"
PARCEL = "parcel.json"
DELIVERY_TAG = "delivery"  # tells a run whose making broke off from one that was never made
_REFUSED = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "INVALID_STATE"}  # trying again would not help


@dataclass(frozen=True)
class Outbox:
    """Where rows of a store wait."""

    store: Store
    folder: Path


@dataclass(frozen=True)
class StartedRun:
    """A quartet's run as it was begun; `run_id` is "" where the store was away."""

    sweep_id: str
    run_name: str
    params: Mapping[str, Any]
    tags: Mapping[str, Any]
    delivery: str
    run_id: str = ""


@dataclass(frozen=True)
class Waiting:
    """A row that could not be delivered, and why."""

    run_name: str
    reason: str


def outbox_of(store: Store, root: str | Path) -> Outbox:
    """Return the outbox of a store below `tracking.root`; two stores never share one."""
    address = key_of({"uri": store.uri, "experiment": store.experiment})
    return Outbox(store, Path(root).expanduser().absolute() / FOLDER / address[:16])


def begin(
    outbox: Outbox, sweep_id: str, run_name: str, params: Mapping[str, Any], tags: Mapping[str, Any]
) -> StartedRun:
    """Start a quartet's run, or go on without one where the store is away."""
    quartet = StartedRun(sweep_id, run_name, params, tags, uuid.uuid4().hex)
    try:
        with quietly():
            return _started(outbox.store, quartet)
    except Exception:  # whatever a store raises: the row is delivered later, or the reason is told then
        return quartet


def hand_over(
    outbox: Outbox, quartet: StartedRun, record: QuartetRecord, status: str = "FINISHED", error: str = ""
) -> str | None:
    """Log a quartet's row and end its run, or put the row into the outbox; return None, or why it was lost.

    A row that the store refuses for what is in it ends as FAILED with the store's reason.
    """
    error = redacted(error)
    try:
        _send(outbox.store, quartet, record, status, error)
        return None
    except Exception as failure:
        away = reason_of(failure)
        if getattr(failure, "error_code", "") in _REFUSED and status == "FINISHED":
            reason = f"the store refused the row: {away}"
            return hand_over(outbox, quartet, QuartetRecord(), "FAILED", reason) or reason
    try:
        _put(outbox, quartet, record, status, error)
        return None
    except OSError as failure:
        lost = f"its row could neither be logged ({away}) nor kept in {outbox.folder} ({reason_of(failure)})"
    with suppress(Exception):
        _send(outbox.store, quartet, QuartetRecord(), "FAILED", lost)
    return lost


def deliver(outbox: Outbox) -> list[Waiting]:
    """Log what waits; return what still does. Another process that delivers the same row is left to it."""
    from filelock import FileLock, Timeout

    left = []
    for folder in sorted(outbox.folder.glob("*/")) if outbox.folder.is_dir() else []:
        if folder.name.startswith("."):
            continue
        try:
            with FileLock(outbox.folder / f"{folder.name}.lock", timeout=0):
                if folder.is_dir():
                    _deliver_one(outbox.store, folder)
            (outbox.folder / f"{folder.name}.lock").unlink(missing_ok=True)
        except Timeout:
            continue
        except Exception as failure:
            left.append(Waiting(_name_of(folder), reason_of(failure)))
    return left


def reason_of(error: BaseException) -> str:
    """Return an exception as one line without secrets."""
    kind = "" if isinstance(error, UserError | CellError) else f"{type(error).__name__}: "
    return redacted(f"{kind}{first_line(error)[:300]}")


def _started(store: Store, quartet: StartedRun) -> StartedRun:
    check_there(store.uri)
    tags = {**quartet.tags, DELIVERY_TAG: quartet.delivery}
    run_id = start_quartet(store, quartet.sweep_id, quartet.run_name, quartet.params, tags)
    return replace(quartet, run_id=run_id)


def _send(store: Store, quartet: StartedRun, record: QuartetRecord, status: str, error: str) -> None:
    """Write a row into the run that was begun, also by a delivery that broke off, or into a new one."""
    check_there(store.uri)
    with quietly():
        if not quartet.run_id:
            made = search(store.client(), [store.experiment_id], f"tags.`{DELIVERY_TAG}` = '{quartet.delivery}'")
            quartet = replace(quartet, run_id=made[0].info.run_id) if made else _started(store, quartet)
        log_quartet(store, quartet.run_id, replace(record, params={**quartet.params, **record.params}))
        end_quartet(store, quartet.run_id, status, error)


def _put(outbox: Outbox, quartet: StartedRun, record: QuartetRecord, status: str, error: str) -> None:
    """Write a row under a temporary name, wait until it is on the disk, rename it."""
    outbox.folder.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".", dir=outbox.folder))
    try:
        files = {}
        for number, (name, path) in enumerate(record.artifacts.items()):
            copy = shutil.copyfile(path, work / f"{number}{path.suffix}")
            _flush(copy)
            files[name] = {"file": copy.name, "sha256": file_sha256(copy)}
        content = {
            "quartet": {**asdict(quartet), "params": _texts(quartet.params), "tags": _texts(quartet.tags)},
            "params": _texts(record.params),
            "metrics": {name: float(value) for name, value in record.metrics.items() if math.isfinite(value)},
            "tags": _texts(record.tags),
            "description": record.description,
            "artifacts": files,
            "status": status,
            "error": error,
        }
        text = json.dumps({"content": content, "sha256": key_of(content)}, indent=1)
        (work / PARCEL).write_text(text)
        _flush(work / PARCEL)
        os.replace(work, outbox.folder / quartet.delivery)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _deliver_one(store: Store, folder: Path) -> None:
    parcel = json.loads((folder / PARCEL).read_text())
    content = parcel["content"]
    if key_of(content) != parcel["sha256"]:
        raise ValueError(f"{folder / PARCEL} was changed or damaged while it waited")
    artifacts = {}
    for name, entry in content["artifacts"].items():
        path = folder / Path(entry["file"]).name
        if file_sha256(path) != entry["sha256"]:
            raise ValueError(f"{path} was changed or damaged while it waited")
        artifacts[name] = path
    record = QuartetRecord(content["params"], content["metrics"], content["tags"], artifacts, content["description"])
    _send(store, StartedRun(**content["quartet"]), record, content["status"], content["error"])
    shutil.rmtree(folder)


def _name_of(folder: Path) -> str:
    try:
        return str(json.loads((folder / PARCEL).read_text())["content"]["quartet"]["run_name"])
    except (OSError, ValueError, KeyError, TypeError):
        return folder.name


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in values.items()}


def _flush(path: Path | str) -> None:
    """Wait until a file is on the disk: a rename may get there before the content does."""
    with open(path, "rb+") as handle:
        os.fsync(handle.fileno())

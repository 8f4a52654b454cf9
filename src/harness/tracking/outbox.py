"""A quartet's row on its way to the store: written to disk first, then delivered, as often as it takes, once.

Every row goes into a folder below `tracking.root`/outbox, with its numbers and files, and from there into MLflow. A
tracking server that is down, a locked or full database, a process that dies in between cost no measurement: the row
stays, and is delivered after the next quartet, at the end of the sweep, or at the next start. A delivery that broke off
is repeated from its beginning and gives the same row; a row that arrived is not written again.

A store that does not answer costs a sweep little time, however many rows wait: the first failure ends a round of
deliveries, the next round comes later each time, and there is a limit to what a sweep spends on rounds that fail.
"""

from __future__ import annotations

import json
import math
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.results.row import QuartetRecord
from harness.system.cache import file_sha256, key_of
from harness.system.errors import CellError, UserError, first_line, of_the_system
from harness.system.files import flush, put_in_place, remove_left_scratch, scratch_folder, write_whole
from harness.system.secrets import redacted
from harness.tracking.runs import DELIVERY_TAG, created_before, end_quartet, log_quartet, now_ms, start_quartet
from harness.tracking.store import Store, check_there, quietly

FOLDER = "outbox"
PARCEL = "parcel.json"
FIRST_WAIT_S, LONGEST_WAIT_S = 10.0, 300.0  # after a failure, twice as long each time
SPENT_AT_MOST_S = 120.0  # of a sweep, on a store that does not answer
_REFUSED = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "INVALID_STATE"}  # trying again would not help


@dataclass
class Patience:
    """How long a store has not answered, and when to ask it again."""

    failures: int = 0  # in a row
    not_before_s: float = 0.0  # by the monotonic clock
    spent_s: float = 0.0  # on failures
    reason: str = ""  # of the last one

    def is_due(self) -> bool:
        """Return whether an attempt at the store is due."""
        return time.monotonic() >= self.not_before_s and self.spent_s < SPENT_AT_MOST_S

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Count the call inside as a success, or as one more failure."""
        began = time.monotonic()
        try:
            yield
        except Exception as error:
            if not _is_of_the_row(error):
                self.reason = reason_of(error)
                self.spent_s += time.monotonic() - began
                self.not_before_s = time.monotonic() + min(LONGEST_WAIT_S, FIRST_WAIT_S * 2**self.failures)
                self.failures += 1
            raise
        self.failures, self.not_before_s, self.reason = 0, 0.0, ""


@dataclass(frozen=True)
class Outbox:
    """Where rows of a store wait."""

    store: Store
    folder: Path
    patience: Patience = field(default_factory=Patience, compare=False)


@dataclass(frozen=True)
class StartedRun:
    """A quartet's run as it was begun; `run_id` is "" where the store was unreachable."""

    sweep_id: str
    run_name: str
    params: Mapping[str, Any]
    tags: Mapping[str, Any]
    delivery: str
    run_id: str = ""


class RowLost(UserError):
    """A row could neither be written to disk nor logged: there is no use in measuring more of them."""


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
    """Start a quartet's run, or go on without one where the store is unreachable."""
    quartet = StartedRun(sweep_id, run_name, params, tags, uuid.uuid4().hex)
    if not outbox.patience.is_due():
        return quartet
    try:
        with quietly(), outbox.patience.asking():
            return _started(outbox.store, quartet)
    except Exception:  # whatever a store raises: the row is delivered later, or its reason is reported then
        return quartet


def hand_over(
    outbox: Outbox, quartet: StartedRun, record: QuartetRecord, status: str = "FINISHED", error: str = ""
) -> str | None:
    """Write a quartet's row to disk, then deliver it and end its run; return None, or why the store refused the row.

    A row that can't be delivered now waits. One that the store refuses for what is in it ends as FAILED with the
    store's reason. One that can't be written to disk is logged directly. Raises RowLost where that fails too.
    """
    parcel = _parcel(quartet, record, status, redacted(error))
    try:
        with _held(outbox, quartet.delivery):
            folder = _put(outbox, parcel, record.artifacts)
            if not outbox.patience.is_due():
                return None
            try:
                with outbox.patience.asking():
                    _deliver(outbox.store, folder)
            except Exception as failure:  # whatever a store raises
                if not _is_refusal(failure, parcel):
                    return None
                shutil.rmtree(folder)
                reason = f"the store refused the row: {reason_of(failure)}"
            else:
                return None
        return hand_over(outbox, quartet, QuartetRecord(), "FAILED", reason) or reason
    except OSError as failure:
        _log_directly(outbox, parcel, record.artifacts, reason_of(failure))
        return None


def deliver(outbox: Outbox, at_once: bool = True) -> list[Waiting]:
    """Log what waits; return what still does. Another process that delivers the same row is left to it.

    The first failure of the store ends the round; without `at_once` none begins before the next attempt is due.
    """
    from filelock import Timeout

    left = []
    remove_left_scratch(outbox.folder)
    unreachable = "" if at_once or outbox.patience.is_due() else outbox.patience.reason
    for folder in sorted(outbox.folder.glob("*/")) if outbox.folder.is_dir() else []:
        if folder.name.startswith("."):
            continue
        if unreachable:
            left.append(Waiting(_name_of(folder), unreachable))
            continue
        try:
            with _held(outbox, folder.name, timeout_s=0):
                if folder.is_dir():
                    with outbox.patience.asking():
                        _deliver(outbox.store, folder)
        except Timeout:
            continue
        except Exception as failure:
            left.append(Waiting(_name_of(folder), reason_of(failure)))
            unreachable = "" if _is_of_the_row(failure) else left[-1].reason
    return left


def reason_of(error: BaseException) -> str:
    """Return an exception as one line without secrets."""
    error = of_the_system(error)
    kind = "" if isinstance(error, UserError | CellError) else f"{type(error).__name__}: "
    return redacted(f"{kind}{first_line(error)[:300]}")


def _started(store: Store, quartet: StartedRun) -> StartedRun:
    check_there(store.uri)
    tags = {**quartet.tags, DELIVERY_TAG: quartet.delivery}
    run_id = start_quartet(store, quartet.sweep_id, quartet.run_name, quartet.params, tags)
    return replace(quartet, run_id=run_id)


@contextmanager
def _held(outbox: Outbox, delivery: str, timeout_s: float = -1) -> Iterator[None]:
    """Keep other processes from delivering this row; raise filelock's Timeout where one of them does."""
    from filelock import FileLock

    outbox.folder.mkdir(parents=True, exist_ok=True)
    lock = outbox.folder / f"{delivery}.lock"
    with FileLock(lock, timeout=timeout_s):
        try:
            yield
        finally:
            if not (outbox.folder / delivery).exists():
                lock.unlink(missing_ok=True)


def _parcel(quartet: StartedRun, record: QuartetRecord, status: str, error: str) -> dict[str, Any]:
    """Return all of a row but its files, as JSON can hold it."""
    return {
        "quartet": {**asdict(quartet), "params": _texts(quartet.params), "tags": _texts(quartet.tags)},
        "params": _texts(record.params),
        "metrics": {name: float(value) for name, value in record.metrics.items() if math.isfinite(value)},
        "tags": _texts(record.tags),
        "description": record.description,
        "status": status,
        "error": error,
        "at_ms": now_ms(),
    }


def _put(outbox: Outbox, parcel: Mapping[str, Any], artifacts: Mapping[str, Path]) -> Path:
    """Write a row under a temporary name, wait until it is on the disk, rename it; return its folder."""
    folder = outbox.folder / str(parcel["quartet"]["delivery"])
    with scratch_folder(outbox.folder) as scratch:
        work = scratch / "row"
        work.mkdir()
        files = {}
        for number, (name, path) in enumerate(artifacts.items()):
            copy = shutil.copyfile(path, work / f"{number}{path.suffix}")
            flush(copy)
            files[name] = {"file": copy.name, "sha256": file_sha256(copy)}
        content = {**parcel, "artifacts": files}
        write_whole(work / PARCEL, json.dumps({"content": content, "sha256": key_of(content)}, indent=1))
        put_in_place(work, folder)
    return folder


def _deliver(store: Store, folder: Path) -> None:
    """Log the row in a folder, then remove the folder."""
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
    _log_row(store, content, artifacts)
    shutil.rmtree(folder)


def _log_row(store: Store, parcel: Mapping[str, Any], artifacts: Mapping[str, Path]) -> None:
    """Write a row into the run that was begun, also by a delivery that broke off, or into a new one.

    The run's end is written last, so a run that has ended as its row says has all of it.
    """
    check_there(store.uri)
    quartet = StartedRun(**parcel["quartet"])
    with quietly():
        if not quartet.run_id:
            made = created_before(store, quartet.delivery)
            quartet = replace(quartet, run_id=made) if made else _started(store, quartet)
        if store.client().get_run(quartet.run_id).info.status == parcel["status"]:
            return
        params = {**quartet.params, **parcel["params"]}
        record = QuartetRecord(params, parcel["metrics"], parcel["tags"], artifacts, parcel["description"])
        at_ms = parcel.get("at_ms")  # parcels of version 0.1.0 may lack it
        log_quartet(store, quartet.run_id, record, at_ms)
        end_quartet(store, quartet.run_id, parcel["status"], parcel["error"], at_ms)


def _log_directly(outbox: Outbox, parcel: Mapping[str, Any], artifacts: Mapping[str, Path], why: str) -> None:
    """Log a row that can't be written to disk; raise RowLost where that fails, which its run says too."""
    try:
        _log_row(outbox.store, parcel, artifacts)
        return
    except Exception as failure:
        lost = f"its row could neither be written to {outbox.folder} ({why}) nor logged ({reason_of(failure)})"
    empty = {"params": {}, "metrics": {}, "tags": {}, "description": "", "status": "FAILED", "error": lost}
    with suppress(Exception):
        _log_row(outbox.store, {**parcel, **empty}, {})
    raise RowLost(lost)


def _is_refusal(failure: Exception, parcel: Mapping[str, Any]) -> bool:
    """Whether the store refuses a row for its content; the reason alone is never refused for good."""
    return getattr(failure, "error_code", "") in _REFUSED and parcel["status"] == "FINISHED"


def _is_of_the_row(failure: Exception) -> bool:
    """Whether a row is at fault, damaged or refused, and not the store, which another row would meet as well."""
    return isinstance(failure, ValueError | FileNotFoundError) or getattr(failure, "error_code", "") in _REFUSED


def _name_of(folder: Path) -> str:
    try:
        return str(json.loads((folder / PARCEL).read_text())["content"]["quartet"]["run_name"])
    except (OSError, ValueError, KeyError, TypeError):
        return folder.name


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {name: redacted(str(value)) for name, value in values.items()}

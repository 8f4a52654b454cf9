"""Go on where an unfinished sweep of the same grid stopped: its finished quartets are kept, the others run again.

Two sweeps have the same grid if they have the same set of quartet keys (config, code, engine version, chip, driver). A
sweep all of whose quartets are finished is never gone on with: running it again measures anew.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.engines.cache import key_of
from harness.errors import UserError
from harness.track import Store, children, finish, finish_sweep, move, sweeps

if TYPE_CHECKING:
    from mlflow.entities import Run

PROCESS_TAG, GRID_TAG = "process", "grid_key"


@dataclass(frozen=True)
class Kept:
    """What of an earlier sweep stays."""

    sweep_id: str = ""
    name: str = ""
    finished: dict[str, str] = field(default_factory=dict)  # quartet key -> run id


def grid_key(quartet_keys: Sequence[str]) -> str:
    """Return what identifies a grid, whatever the order of its quartets."""
    return key_of({"quartets": sorted(quartet_keys)})


def this_process() -> str:
    """Return a name of this process that no other one on any machine has, at any time."""
    import psutil

    return f"{socket.gethostname()} {os.getpid()} {psutil.Process().create_time():.2f}"


def find_kept(store: Store, quartet_keys: Sequence[str], resume: str) -> Kept:
    """Return what to go on with; `resume` is "auto", "never", or a sweep's name or run id.

    Raises UserError where there is no sweep of that name.
    """
    if resume == "never":
        return Kept()
    wanted = set(quartet_keys)
    if resume != "auto":
        for run in sweeps(store):
            if resume in (run.info.run_id, run.info.run_name):
                return _kept(store, run, wanted)
        raise UserError(f"resume={resume}: no such sweep in the store; use auto, never, or a sweep's name or run id.")
    newest = next((run for run in sweeps(store) if run.data.tags.get(GRID_TAG) == grid_key(quartet_keys)), None)
    if newest is None or _alive(newest):
        return Kept()
    kept = _kept(store, newest, wanted)
    return Kept() if set(kept.finished) == wanted else kept


def adopt(store: Store, kept: Kept, sweep_id: str) -> None:
    """Make the kept quartets children of the new sweep, and say so in the old one."""
    for run_id in kept.finished.values():
        move(store, run_id, sweep_id, f"measured in sweep {kept.name} ({kept.sweep_id})")


def end_the_dead(store: Store) -> None:
    """Mark as KILLED what sweeps left running whose process is gone from this machine."""
    for run in sweeps(store):
        if run.info.status == "RUNNING" and run.data.tags.get(PROCESS_TAG) and not _alive(run):
            finish_sweep(store, run.info.run_id)
            finish(store, run.info.run_id, "KILLED", "its process ended before the sweep did")


def _kept(store: Store, run: Run, wanted: set[str]) -> Kept:
    finished = {
        child.data.tags["quartet_key"]: child.info.run_id
        for child in children(store, run.info.run_id)
        if child.info.status == "FINISHED" and child.data.tags.get("quartet_key") in wanted
    }
    return Kept(run.info.run_id, str(run.info.run_name), finished)


def _alive(run: Run) -> bool:
    """Return whether a sweep's process runs; of another machine's nobody can tell here, so its word counts."""
    import psutil

    host, _, rest = run.data.tags.get(PROCESS_TAG, "").partition(" ")
    if run.info.status != "RUNNING" or not rest:
        return False
    if host != socket.gethostname():
        return True
    pid, _, created = rest.partition(" ")
    try:
        return f"{psutil.Process(int(pid)).create_time():.2f}" == created
    except psutil.Error:
        return False

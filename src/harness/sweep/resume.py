"""Resume an unfinished sweep of the same grid: its finished quartets are reused, the others run again.

Two sweeps have the same grid if they have the same set of quartet keys (config, network, images, engines, chip, driver,
and those of our sources that decide a number: `job.quartet_key`). A sweep that is FINISHED is never
resumed: running it again measures anew.

A kill at any instant loses nothing: a new sweep names the sweep it continues from its first moment on, so the next
start finds the quartets of both, moved or not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.system.cache import key_of
from harness.system.errors import UserError
from harness.tracking import Store, children, end_killed, move, sweeps
from harness.tracking.liveness import PROCESS_TAG, forget_the_dead, is_alive
from harness.tracking.runs import DELIVERY_TAG

if TYPE_CHECKING:
    from mlflow.entities import Run

GRID_TAG, CONTINUES_TAG = "grid_key", "continues"


@dataclass(frozen=True)
class Resumed:
    """What an earlier sweep has measured already."""

    sweep_id: str = ""
    name: str = ""
    finished: dict[str, str] = field(default_factory=dict)  # quartet key -> run id


def grid_key(quartet_keys: Sequence[str]) -> str:
    """Return what identifies a grid, whatever the order of its quartets."""
    return key_of({"quartets": sorted(quartet_keys)})


def find_measured(store: Store, quartet_keys: Sequence[str], resume: str) -> Resumed:
    """Return what need not be measured again; `resume` is "auto", "never", or a sweep's name or run id.

    Raises UserError where there is no sweep of that name, or where it still runs.
    """
    if resume == "never":
        return Resumed()
    requested = set(quartet_keys)
    runs = sweeps(store)
    if resume != "auto":
        for run in runs:
            if resume in (run.info.run_id, run.info.run_name):
                if is_alive(store, run):
                    raise UserError(f"resume={resume}: that sweep still runs; wait for its end, or use resume=never.")
                return _measured(store, run, requested, runs)
        raise UserError(f"resume={resume}: no such sweep in the store; use auto, never, or a sweep's name or run id.")
    continued = {run.data.tags.get(CONTINUES_TAG) for run in runs}
    same_grid = [run for run in runs if run.data.tags.get(GRID_TAG) == grid_key(quartet_keys)]
    newest = next((run for run in same_grid if run.info.run_id not in continued), None)
    if newest is None or newest.info.status == "FINISHED" or is_alive(store, newest):
        return Resumed()
    twins = [run for run in same_grid if _key(run) == _key(newest)]  # of one start whose request was repeated
    return max((_measured(store, run, requested, runs) for run in twins), key=lambda found: len(found.finished))


def _key(run: Run) -> str:
    return str(run.data.tags.get(DELIVERY_TAG, run.info.run_id))


def continuation_tags(resumed: Resumed) -> dict[str, str]:
    """Return the tags that a new sweep begins with: which sweep it resumes is known before anything is moved."""
    return {CONTINUES_TAG: resumed.sweep_id} if resumed.finished else {}


def adopt(store: Store, resumed: Resumed, sweep_id: str) -> None:
    """Make the measured quartets children of the new sweep, with a note in each of them."""
    for run_id in resumed.finished.values():
        move(store, run_id, sweep_id, f"measured in sweep {resumed.name} ({resumed.sweep_id})")


def end_dead_sweeps(store: Store) -> None:
    """End as KILLED the sweeps whose process has ended."""
    for run in sweeps(store):
        if run.info.status == "RUNNING" and run.data.tags.get(PROCESS_TAG) and not is_alive(store, run):
            end_killed(store, run.info.run_id, "its process ended before the sweep did")
    forget_the_dead(store)


def _measured(store: Store, run: Run, requested: set[str], runs: Sequence[Run]) -> Resumed:
    """Return the finished quartets of a sweep and of those it continued, as far as they were not moved yet."""
    by_id: Mapping[str, Run] = {run.info.run_id: run for run in runs}
    finished: dict[str, str] = {}
    seen: set[str] = set()
    ancestor: Run | None = run
    while ancestor is not None and ancestor.info.run_id not in seen:
        seen.add(ancestor.info.run_id)
        for child in children(store, ancestor.info.run_id):
            key = child.data.tags.get("quartet_key")
            if child.info.status == "FINISHED" and key in requested:
                finished.setdefault(key, child.info.run_id)
        ancestor = by_id.get(ancestor.data.tags.get(CONTINUES_TAG, ""))
    return Resumed(run.info.run_id, str(run.info.run_name), finished)

"""The end of a sweep: the verdicts of all its quartets taken together, the report, the table, the exit status."""

from __future__ import annotations

import shlex
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from rich.console import Console

from harness.report.table import print_table
from harness.stats.multiplicity import correction_of, standing_verdict
from harness.sweep.refusals import PlannedSweep
from harness.sweep.terminal import VERBATIM
from harness.system.counts import counted
from harness.tracking import Store, finish_sweep, log_family_verdict
from harness.tracking.load import load
from harness.tracking.outbox import Outbox, deliver, reason_of
from harness.tracking.store import quietly, resolve_uri, shown, sqlite_path

if TYPE_CHECKING:
    import pandas

HEADLINE = "figures/headline.png"  # among a sweep's artifacts
_SERVER_CALLS = 8  # at once


def conclude(console: Console, store: Store, sweep_id: str, outbox: Outbox, planned: PlannedSweep) -> int:
    """Deliver what waits, adjust verdicts, publish the report, end the sweep, print its table; return the status."""
    jobs = planned.jobs
    waiting = deliver(outbox)
    try:
        with quietly():
            adjust(store, load(sweep_id, store.uri))
            if jobs[0].plan.config.tracking.report and not waiting:
                _publish(console, store, sweep_id)
            counts = finish_sweep(store, sweep_id, len(jobs))  # last: what is FINISHED is complete
        print_table(console, load(sweep_id, store.uri), store.uri)
        _print_next(console, store, sweep_id)
    except Exception as error:
        console.print(f"The tracking store is unreachable: {reason_of(error)}", **VERBATIM)
        counts = {}
    if waiting:
        console.print(
            f"{counted(len(waiting), 'quartet')} measured and not logged yet, waiting in {outbox.folder}: "
            "the same command delivers what waits.",
            **VERBATIM,
        )
    return 0 if counts == {"FINISHED": len(jobs)} else 1


def adjust(store: Store, frame: pandas.DataFrame) -> None:
    """Log, for each finished quartet of a sweep, its p-value and verdict after the correction, `protocol.family`.

    An adjusted verdict is either the quartet's own or `inconclusive`: of many quartets, some would look significant by
    chance. See `harness.stats.multiplicity`.
    """
    if "interaction/p_value" not in frame:
        return
    family = frame[(frame["status"] == "FINISHED") & frame["interaction/p_value"].notna()]
    correction = correction_of(family.get("protocol.family", ()))
    adjusted = correction.p_values(family["interaction/p_value"].tolist())

    def log(row: pandas.Series, p_adjusted: float) -> None:
        verdict = standing_verdict(row["verdict"], p_adjusted, float(row["protocol.level"]))
        degraded = isinstance(row.get("degraded"), str)
        log_family_verdict(store, row["run_id"], correction, p_adjusted, str(verdict), degraded)

    # MLflow needs a call for each quartet: a server answers several at once, a sqlite file one
    with ThreadPoolExecutor(_SERVER_CALLS if store.uri.startswith("http") else 1) as pool:
        rows = (row for _, row in family.iterrows())
        list(pool.map(log, rows, adjusted))  # `list` raises what any of them raised


def _print_next(console: Console, store: Store, sweep_id: str) -> None:
    """Say where the picture lies, and which command says why."""
    picture = _local_artifact(store, sweep_id, HEADLINE)
    if picture is not None:
        console.print(f"Picture: {picture}", **VERBATIM)
    is_default = resolve_uri()[0] == store.uri
    where = "" if is_default else f" --uri {shlex.quote(shown(store.uri))}"
    console.print(f"Why, and which combination to take: python -m harness.report{where} --html report.html", **VERBATIM)


def _local_artifact(store: Store, run_id: str, name: str) -> Path | None:
    """Return where a run's file lies, from here if it is below; None where it is a server's, or there is none."""
    if sqlite_path(store.uri) is None:
        return None
    uri = store.client().get_run(run_id).info.artifact_uri
    path = Path(url2pathname(urlsplit(uri).path)) / name
    if not path.is_file():
        return None
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _publish(console: Console, store: Store, sweep_id: str) -> None:
    """Put the report into the parent run; a report that fails costs no measurement."""
    from harness.report.publish import publish
    from harness.report.study import open_study

    try:
        publish(store, open_study(sweep_id, store.uri))
    except Exception as error:
        console.print(
            f"The report was not logged: {type(error).__name__}: {str(error)[:200]}", style="yellow", markup=False
        )
        console.print("python -m harness.report makes it from the store.", style="yellow")

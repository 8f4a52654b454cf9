"""How far the record scales: many quartets, several writers, one real server; nothing lost, nothing doubled.

    python experiments/record_scale/run.py [--quartets 2000] [--writers 8] [--output FOLDER]

Writes what it found to `results.csv` and `environment.json` in FOLDER and exits with 1 if a row is missing, doubled or
not as it was written. The server is PostgreSQL, basic auth and TLS on this machine (`server.py`); the writers share
its processors, so the times are those of a machine that does all of it.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from server import Server, tracking_server  # noqa: E402
from writer import Share, metrics_of, name_of, params_of, write  # noqa: E402

SAMPLES = HERE.parent / "densenet121_h100" / "dense_blocks_b32" / "samples.parquet"  # of a real quartet


def main() -> int:
    """Run it all; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quartets", type=int, default=2000)
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2, help="processes of the server")
    parser.add_argument("--output", type=Path, default=HERE)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="harness-scale-") as folder,
        tracking_server(Path(folder), "uvicorn", options.workers) as server,
    ):
        os.environ.update(server.environment)
        found = measure(server, Path(folder), options.quartets, options.writers)
    from harness.system.machine import environment

    options.output.mkdir(parents=True, exist_ok=True)
    with open(options.output / "results.csv", "w", newline="") as handle:
        rows = csv.writer(handle, lineterminator="\n")
        rows.writerow(["what", "value"])
        rows.writerows(found.items())
    (options.output / "environment.json").write_text(json.dumps(environment(), indent=1) + "\n")
    for name, value in found.items():
        print(f"{name:32} {value}")
    return 0 if found["lost"] == found["doubled"] == found["changed"] == 0 else 1


def measure(server: Server, folder: Path, quartets: int, writers: int) -> dict[str, Any]:
    """Return counts of rows and seconds of whatever a person or the tool does with them."""
    from rich.console import Console

    import harness
    from harness.config import TrackingConfig
    from harness.report.table import print_table
    from harness.sweep.conclude import adjust
    from harness.tracking import finish_sweep, install_views, open_store, start_sweep

    store = open_store(TrackingConfig())
    install_views(store)
    sweep_id = start_sweep(store, "scale", {}, {"jobs": quartets})
    shares = [
        Share(turn, tuple(range(turn, quartets, writers)), sweep_id, server.environment, SAMPLES, folder)
        for turn in range(writers)
    ]
    out: dict[str, Any] = {"quartets": quartets, "writers": writers, "samples_kb": round(SAMPLES.stat().st_size / 1e3)}
    with ProcessPoolExecutor(writers, mp_context=get_context("spawn")) as pool:
        began = time.perf_counter()
        seconds = [one for own in pool.map(write, shares) for one in own]
        out["write_s"] = round(time.perf_counter() - began, 1)
    print(f"written: {out['write_s']} s", flush=True)
    out["quartets_per_s"] = round(quartets / out["write_s"], 2)
    for q in (50, 95, 100):
        out[f"write_one_p{q}_s"] = round(float(np.percentile(seconds, q)), 2)

    def timed(name: str, call: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        value = call()
        out[f"{name}_s"] = round(time.perf_counter() - began, 2)
        print(f"{name}: {out[f'{name}_s']} s", flush=True)
        return value

    counts = timed("finish_sweep", lambda: finish_sweep(store, sweep_id, quartets))
    frame = timed("load", lambda: harness.load("scale"))
    timed("holm", lambda: adjust(store, frame))
    frame = timed("load_again", lambda: harness.load("scale"))
    text = io.StringIO()
    timed("report", lambda: print_table(Console(file=text, width=160), frame, store.uri))
    out["report_lines"] = text.getvalue().count("\n")
    timed("view_page", lambda: _view_page(store))
    out |= {"finished": counts.get("FINISHED", 0), **_compared(frame, quartets)}
    return out


def _view_page(store: Any) -> None:
    """Ask for what the shipped view shows first: its filter, its order, a page of 100 rows."""
    from harness.tracking.view import state

    table = state()
    page = store.client().search_runs(
        [store.experiment_id], table["searchFilter"], order_by=["attributes.start_time DESC"], max_results=100
    )
    assert len(page) == 100 or page.token is None


def _compared(frame: Any, quartets: int) -> dict[str, int]:
    """Count rows that are missing, there twice, or hold another value than was written."""
    keys = frame["quartet_key"].value_counts()
    changed = 0
    by_key = frame.drop_duplicates("quartet_key").set_index("quartet_key")
    for number in range(quartets):
        if f"key-{number}" not in by_key.index:
            continue
        row = by_key.loc[f"key-{number}"]
        same = all(row[name] == value for name, value in metrics_of(number).items())
        same = same and all(row[name] == str(value) for name, value in params_of(number).items())
        changed += not (same and row["run_name"] == name_of(number) and row["status"] == "FINISHED")
    return {
        "lost": quartets - len(keys),
        "doubled": int((keys > 1).sum()),
        "changed": changed,
        "metrics_a_quartet": len(metrics_of(0)),
    }


if __name__ == "__main__":
    sys.exit(main())

"""Kill a running sweep at random moments, again and again, and see whether anything is lost: python run.py --kills 50.

Each start gets SIGINT, SIGTERM or SIGKILL after a random time, from the first import to the last quartet; a sweep that
came through is begun anew with an empty cache. After every kill: no process is left, the database is whole. After every
sweep that came through: each quartet is FINISHED exactly once, and the set is that of an undisturbed run.

With --neighbour another sweep runs beside it again and again, in a PID namespace of its own with the same store (as a
second container would; needs root), and must end nothing that lives: before each kill the sweep must still be RUNNING.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pandas
import psutil

import harness
from harness.system.machine import environment

HERE = Path(__file__).resolve().parent
GRID = (
    "-m", "model=densenet_tiny", "batch_size=2", "arch=grouped,low_rank,identity", "hw=identity", "reference=engine",
    "engine=onnxruntime", "protocol=quick", "protocol.budget_s=1", "protocol.min_blocks=5", "protocol.max_blocks=5",
    "protocol.slice_s=0.01", "protocol.warmup_max_s=0.1", "protocol.ceilings=false",
)  # fmt: skip
QUARTETS = 3
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
ORPHAN_S = 5.0  # a child that the kernel ends with its parent needs a moment


def main() -> int:
    """Run the soak; return 0 if nothing was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--neighbour", action="store_true", help="a second container beside it, on the same store")
    parser.add_argument("--out", type=Path, default=HERE)
    asked = parser.parse_args()
    generator = random.Random(asked.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        began = time.monotonic()
        finish(start(folder / "undisturbed", folder / "cache-undisturbed"))
        whole_s = time.monotonic() - began
        wanted = finished_keys(folder / "undisturbed")
        print(f"undisturbed: {len(wanted)} quartets in {whole_s:.0f} s", flush=True)
        rows: list[dict[str, object]] = []
        visits: list[int] = []
        with neighbour(folder, visits) if asked.neighbour else nullcontext():
            rounds = disturbed(folder, wanted, whole_s, asked.kills, generator, rows, asked.out)
    summary = {
        "kills": len(rows), "seed": asked.seed, "undisturbed_s": round(whole_s, 1), "sweeps_that_came_through": rounds,
        "by_signal": pandas.Series([row["signal"] for row in rows]).value_counts().to_dict(),
        "orphans": sum(int(str(row["orphans"])) for row in rows),
        "databases_not_whole": sum(row["database"] != "ok" for row in rows),
        "sweeps_beside_it": len(visits), "of_these_failed": sum(status != 0 for status in visits),
        "kills_that_found_it_running": sum(row["stands_as"] == "RUNNING" for row in rows),
        "robbed": sum(row["stands_as"] not in ("", "RUNNING", "FINISHED") for row in rows),
        "longest_answer_s": max((float(str(row["answer_s"])) for row in rows if row["answer_s"] != ""), default=0.0),
        "environment": environment(),
    }  # fmt: skip
    (asked.out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    print(json.dumps({key: value for key, value in summary.items() if key != "environment"}, indent=1))
    return int(any(summary[fault] for fault in ("orphans", "databases_not_whole", "robbed", "of_these_failed")))


@contextmanager
def neighbour(folder: Path, statuses: list[int]) -> Iterator[None]:
    """Run a sweep of one quartet on the same store, again and again, in a PID namespace of its own."""
    over = threading.Event()

    def run() -> None:
        own = {"HARNESS_CACHE": str(folder / "cache-neighbour"), "HARNESS_LOCK_DIR": str(folder / "locks-neighbour")}
        (folder / "locks-neighbour").mkdir()
        command = [*GRID, "arch=identity", f"tracking.root={folder / 'mlruns'}", "sweep_name=neighbour"]
        while not over.is_set():
            ended = subprocess.run(
                ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-m", "harness", *command,
                 "resume=never"],
                cwd=folder, env={**os.environ, **own}, capture_output=True, text=True,
            )  # fmt: skip
            statuses.append(ended.returncode)
            if ended.returncode:
                print("neighbour:", ended.returncode, ended.stderr[-2000:], flush=True)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def disturbed(
    folder: Path, wanted: list[str], whole_s: float, kills: int, generator: random.Random,
    rows: list[dict[str, object]], out: Path,
) -> int:  # fmt: skip
    """Kill until `kills` are done, then let the last sweep come through; return how many sweeps did."""
    rounds, cache = 0, folder / "cache-0"
    while True:
        done = len(rows) >= kills
        process = start(folder / "mlruns", cache)
        row = None if done else kill(process, generator.uniform(0.0, whole_s), generator.choice(SIGNALS), folder)
        if row is not None:
            rows.append({"kill": len(rows) + 1, "sweep": rounds + 1, **row})
            pandas.DataFrame(rows).to_csv(out / "log.csv", index=False)
            print(rows[-1], flush=True)
            continue
        finish(process)
        rounds += 1
        found = finished_keys(folder / "mlruns")
        assert found == wanted, (found, wanted)
        print(f"sweep {rounds} came through after {len(rows)} kills in all: each quartet once", flush=True)
        if done:
            return rounds
        shutil.rmtree(cache)
        cache = folder / f"cache-{rounds}"


def start(root: Path, cache: Path) -> subprocess.Popen[str]:
    """Start the sweep with its own store and cache, as a shell would: in a group of its own."""
    root.parent.mkdir(exist_ok=True)
    own = {"HARNESS_CACHE": str(cache), "TMPDIR": str(root.parent)}
    return subprocess.Popen(
        [sys.executable, "-m", "harness", *GRID, f"tracking.root={root}", "sweep_name=soak"],
        cwd=root.parent, env={**os.environ, **own}, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background job's is ignored
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> None:
    """Wait for a sweep that nobody disturbs (any more)."""
    output, errors = process.communicate(timeout=900)
    assert process.returncode == 0, (process.returncode, output, errors)


def kill(
    process: subprocess.Popen[str], after_s: float, number: signal.Signals, folder: Path
) -> dict[str, object] | None:
    """Send one signal after a time and look at what is left; None if the sweep had come through by then."""
    try:
        process.wait(after_s)
        return None
    except subprocess.TimeoutExpired:
        pass
    family = psutil.Process(process.pid).children(recursive=True)
    status = stands_as(folder / "mlruns" / "mlflow.db", process.pid)
    sent = time.monotonic()
    if number is signal.SIGINT:
        os.killpg(process.pid, number)  # as Ctrl-C does it: to everybody
    else:
        process.send_signal(number)
    answer = process.stderr.readline() if process.stderr is not None and number is not signal.SIGKILL else ""
    answered = time.monotonic()
    output, errors = process.communicate(timeout=120)
    ended = time.monotonic()
    _, alive = psutil.wait_procs(family, timeout=ORPHAN_S)
    # of a parent that was killed outright while it started a child, the child says that it is alone
    assert number is signal.SIGKILL or "Traceback" not in answer + errors, answer + errors
    return {
        "signal": number.name,
        "after_s": round(after_s, 2),
        "processes": 1 + len(family),
        "stands_as": status,
        "lines_printed": len(output.splitlines()),
        "status": process.returncode,
        "answer_s": round(answered - sent, 2) if answer.startswith("harness: interrupted") else "",
        "end_s": round(ended - sent, 2),
        "orphans": sum(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in alive),
        "database": integrity(folder / "mlruns" / "mlflow.db"),
    }


def integrity(database: Path) -> str:
    """Return what SQLite says of a database; one that does not exist yet is fine."""
    if not database.exists():
        return "ok"
    with sqlite3.connect(database) as connection:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])


def stands_as(database: Path, pid: int) -> str:
    """Return the status of the sweep that a living process runs; "" before it has one."""
    if not database.exists():
        return ""
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30) as connection:
        found = connection.execute(
            "SELECT runs.status, tags.value FROM runs JOIN tags USING (run_uuid) WHERE tags.key = 'process' "
            "ORDER BY runs.start_time DESC"
        ).fetchall()
    return next((status for status, process in found if process.split()[1:2] == [str(pid)]), "")


def finished_keys(root: Path) -> list[str]:
    """Return the keys of the newest sweep's quartets, all of which must be FINISHED, one row each."""
    frame = harness.load("soak", str(root))
    assert set(frame["status"]) == {"FINISHED"}, frame[["run_name", "status"]]
    keys = sorted(frame["quartet_key"])
    assert len(keys) == len(set(keys)) == QUARTETS, keys
    return keys


if __name__ == "__main__":
    sys.exit(main())

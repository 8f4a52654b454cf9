"""Two sweeps at once on one machine: both come through, and never are two quartets timed at the same moment."""

from __future__ import annotations

import fcntl
import itertools
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas
import pytest
from mlflow import MlflowClient

import harness
import warm_starts

pytestmark = pytest.mark.skipif(not Path("/proc/locks").exists(), reason="needs Linux's list of who waits for a lock")

# long enough that without a lock the two would meet: a time, not a number of blocks
LONG = ("protocol.budget_s=2", "protocol.max_blocks=100000", "protocol.half_width=1e-9")
ON_ENGINE = ("reference=engine", "engine=onnxruntime")  # its workers start within half a second
SWEEPS = {
    "fused": ("arch=grouped", "hw=fusion", *ON_ENGINE),
    "control": ("arch=identity", "hw=identity", *ON_ENGINE),
}


@pytest.fixture(scope="module")
def sweeps(command, tmp_path_factory) -> dict[str, str]:
    """Run both, and hold the device until both have built and wait for it; return what each printed, by name."""
    processes = {}
    try:
        with device_held(Path(command()[1]["TMPDIR"])) as waiting:
            for name, options in SWEEPS.items():
                arguments, environment = command(f"sweep_name={name}", *options, *LONG)
                processes[name] = warm_starts.Popen(
                    arguments, cwd=tmp_path_factory.mktemp("cwd"), env=environment, stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT, text=True,
                )  # fmt: skip
            deadline = time.monotonic() + 200
            while waiting() < 2 and time.monotonic() < deadline:
                time.sleep(0.1)
            assert waiting() == 2, [process.poll() for process in processes.values()]
        outputs = {name: process.communicate(timeout=200)[0] for name, process in processes.items()}
    finally:
        for process in processes.values():
            process.kill()
    assert {name: process.returncode for name, process in processes.items()} == dict.fromkeys(SWEEPS, 0), outputs
    return outputs


@contextmanager
def device_held(folder: Path) -> Iterator[Callable[[], int]]:
    """Hold the lock of the CPU among these temporary files; yield a function: how many processes wait for it.

    Not by `device_lock`, which would hold up their builds as well.
    """
    with open(folder / f"harness-{os.getuid()}-cpu.lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        number = os.fstat(handle.fileno()).st_ino
        yield lambda: len(re.findall(rf"-> FLOCK .*:{number} ", Path("/proc/locks").read_text()))


@pytest.fixture(scope="module")
def rows(sweeps, store_root) -> list[pandas.Series]:
    """Return the one row of each sweep."""
    frames = [harness.load(name, str(store_root)) for name in sweeps]
    assert [frame["status"].tolist() for frame in frames] == [["FINISHED"], ["FINISHED"]]
    return [frame.iloc[0] for frame in frames]


@pytest.fixture(scope="module")
def visits(rows, store_root, tmp_path_factory) -> list[pandas.DataFrame]:
    """Return begin and end of every visit of each quartet, in seconds since the epoch."""
    client = MlflowClient(f"sqlite:///{store_root}/mlflow.db")
    found = []
    for row in rows:
        folder = str(tmp_path_factory.mktemp("artifacts"))
        frame = pandas.read_parquet(client.download_artifacts(row["run_id"], "telemetry.parquet", folder))
        found.append(pandas.DataFrame({"begin": frame["unix_s"] - frame["visit_s"], "end": frame["unix_s"]}))
    return found


def test_two_sweeps_started_at_once_both_come_through(rows, store_root):
    client = MlflowClient(f"sqlite:///{store_root}/mlflow.db")
    parents = [client.get_run(client.get_run(row["run_id"]).data.tags["mlflow.parentRunId"]).info for row in rows]
    for one, other in itertools.permutations(parents):
        assert one.start_time < other.end_time  # each ran while the other did
    assert {row["verdict"] for row in rows} <= {"amplify", "conflict", "independent", "inconclusive"}


def test_no_two_quartets_are_timed_at_the_same_moment(visits):
    spans = sorted((frame["begin"].min(), frame["end"].max()) for frame in visits)
    assert all(end - begin > 2.0 for begin, end in spans)  # they had the time to meet
    (_, first_end), (second_begin, _) = spans
    assert first_end <= second_begin


def test_within_a_quartet_one_cell_is_visited_after_the_other(visits):
    for frame in visits:
        assert (frame["begin"].to_numpy()[1:] >= frame["end"].to_numpy()[:-1] - 1e-3).all()

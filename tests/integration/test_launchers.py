"""Four launchers, for real, on one machine: the rows of one process, and no device is timed twice at once.

There is no GPU here: two simulated ones, which are two locks, show how jobs are spread over devices.
"""

from __future__ import annotations

import itertools

import pandas
import pytest
from mlflow import MlflowClient

import harness
import warm_starts

pytestmark = pytest.mark.minutes

QUARTETS = ("arch=grouped", "hw=fusion", "reference=engine", "engine=onnxruntime")
ON_TWO = ("joblib", "ray")
SEEDS = {True: (0, 1, 2), False: (0, 1)}  # a quartet each: on two devices one more than these, so that one has to wait
OPTIONS = {
    "basic": (),
    "joblib": ("hydra.launcher.n_jobs=2",),
    "submitit_local": (),
    "ray": (
        "hydra.launcher.ray.init.address=local", "hydra.launcher.ray.init.num_cpus=3",
        "hydra.launcher.ray.init.num_gpus=2", "hydra.launcher.ray.remote.num_gpus=1",
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=list(OPTIONS))
def launched(request, command, store_root, tmp_path_factory):
    """Run the same sweep by each launcher; return its name, its rows and its parent run."""
    name = request.param
    seeds = SEEDS[name in ON_TWO]
    swept = (f"sweep_name={name}", f"protocol.seed={','.join(map(str, seeds))}", *QUARTETS)
    arguments, environment = command(f"hydra/launcher={name}", *OPTIONS[name], *swept)
    if name in ON_TWO:
        environment = {**environment, "HARNESS_SIMULATED_GPUS": "2"}
    environment = {**environment, "HARNESS_LOCK_DIR": environment["TMPDIR"]}
    del environment["TMPDIR"]  # Ray's sockets need a short path
    folder = tmp_path_factory.mktemp("cwd")
    done = warm_starts.run(arguments, cwd=folder, env=environment, timeout=550)
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(folder.iterdir()) == []  # nothing is left where it was started
    rows = harness.load(name, str(store_root))
    client = MlflowClient(f"sqlite:///{store_root}/mlflow.db")
    parents = {client.get_run(run_id).data.tags["mlflow.parentRunId"] for run_id in rows["run_id"]}
    assert len(parents) == 1
    assert all(f"[{seed + 1}/{len(seeds)}]" in done.stdout for seed in seeds), done.stdout
    return name, rows, client.get_run(parents.pop())


@pytest.fixture(scope="module")
def spans(launched, store_root, tmp_path_factory) -> dict[str, list[tuple[float, float]]]:
    """Return when each quartet was timed, by device, in seconds since the epoch."""
    client = MlflowClient(f"sqlite:///{store_root}/mlflow.db")
    out: dict[str, list[tuple[float, float]]] = {}
    for _, row in launched[1].iterrows():
        folder = str(tmp_path_factory.mktemp("artifacts"))
        visits = pandas.read_parquet(client.download_artifacts(row["run_id"], "telemetry.parquet", folder))
        begin, end = (visits["unix_s"] - visits["visit_s"]).min(), visits["unix_s"].max()
        out.setdefault(row["device"], []).append((begin, end))
    return out


def test_every_launcher_leaves_the_rows_of_one_sweep(launched):
    name, rows, parent = launched
    assert parent.info.status == "FINISHED"
    assert parent.info.run_name == name
    seeds = [str(seed) for seed in SEEDS[name in ON_TWO]]
    assert parent.data.params["jobs"] == str(len(seeds))
    assert sorted(rows["protocol.seed"]) == seeds
    assert set(rows["status"]) == {"FINISHED"}
    assert rows["quartet_key"].nunique() == len(seeds)


def test_every_row_has_the_whole_analysis(launched):
    _, rows, _ = launched
    whole = ("interaction/factor", "interaction/p_holm", "gain/expected", "throughput/wall", "arch/throughput/wall")
    for column in (*whole, "baseline/throughput/wall", "hw/throughput/wall", "roofline/share"):
        if column in whole or rows[column].notna().any():  # what was left out is an empty column
            assert rows[column].notna().all(), column
    assert rows["verdict"].notna().all()
    assert (rows["build/cache_hit"].isin([0, 1])).all()


def test_no_device_times_two_quartets_at_once(spans):
    for on_one in spans.values():
        for (_, end), (begin, _) in itertools.pairwise(sorted(on_one)):
            assert end <= begin


def test_quartets_are_spread_over_the_devices_there_are(launched, spans):
    name, rows, _ = launched
    assert set(spans) == ({"simulated-gpu-0", "simulated-gpu-1"} if name in ON_TWO else {"cpu"})
    assert sum(len(on_one) for on_one in spans.values()) == len(rows)  # each whole on one

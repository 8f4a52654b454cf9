"""The server scenario as a person runs it, on the CPU: short, but LoadGen, cells and record are the real ones."""

from __future__ import annotations

import json

import numpy as np
import pandas
import pytest

from called import mean_wait_md1_s
from harness.serving.policy import BatchPolicy
from harness.serving.queueing import simulate
from harness.serving.requests import TIMED_BATCHES
from harness.stats.roles import ROLES
from harness.tracking.load import load

SHORT = (
    "scenario=server", "engine=onnxruntime", "reference=engine", "engine.threads=1", "scenario.percentile=90",
    "scenario.min_duration_s=0.5", "scenario.min_queries=100", "scenario.max_duration_s=4", "scenario.repeats=2",
    "scenario.static_batch_sizes=[2]", "scenario.sample_count=8",
)  # fmt: skip


def run_of(swept, store_root, *overrides):
    """Return the finished row of a sweep of one quartet, and its artifacts' folder."""
    done = swept(*SHORT, *overrides)
    assert done.returncode == 0, done.stdout + done.stderr
    frame = load(None, f"sqlite:///{store_root / 'mlflow.db'}")
    assert frame["status"].tolist() == ["FINISHED"]
    row = frame.iloc[0]
    return row, store_root / "artifacts" / row["run_id"] / "artifacts"


@pytest.fixture(scope="module")
def searched(swept, store_root):
    """Return a searched quartet: static against batched, plain against an early exit."""
    return run_of(
        swept, store_root, "arch=early_exit", "hw=dynamic_batching", "scenario.slo_ms=60", "scenario.tolerance=0.3",
        "protocol.restarts=2", "sweep_name=searched",
    )  # fmt: skip


@pytest.fixture(scope="module")
def low_load(swept, store_root):
    """Return two cells at a fixed low rate, one request at a time against batched ones."""
    return run_of(
        swept, store_root, "hw=dynamic_batching", "scenario.static_batch_sizes=[1]", "scenario.rate_per_s=40",
        "scenario.slo_ms=1000", "scenario.min_queries=100", "sweep_name=low",
    )  # fmt: skip


@pytest.mark.minutes
def test_a_search_gives_each_cell_a_rate_at_the_bound_and_the_quartet_a_factor(searched):
    row, _ = searched
    assert row["loadgen"] == "VALID"
    assert row["boundary"] == "at_slo"
    rates = {role: row[f"{role}/throughput/at_slo" if role != "combined" else "throughput/at_slo"] for role in ROLES}
    assert all(rate > 1 for rate in rates.values())
    factor = rates["combined"] * rates["baseline"] / (rates["arch"] * rates["hw"])
    assert row["interaction/at_slo_factor"] == pytest.approx(factor)
    assert row["interaction/factor"] == row["interaction/at_slo_factor"]
    assert row["gain/at_slo_expected"] == pytest.approx(row["gain/at_slo_arch"] * row["gain/at_slo_hw"])
    assert row["verdict"] == "inconclusive"  # two repeats say nothing, whatever they are


@pytest.mark.minutes
def test_the_serving_file_holds_what_a_capacity_plan_needs(searched):
    _, artifacts = searched
    served = json.loads((artifacts / "serving.json").read_text())
    assert (served["slo_ms"], served["percentile"]) == (60.0, 90.0)
    assert tuple(served["cells"]) == ROLES
    for role, cell in served["cells"].items():
        assert cell["low_per_s"] <= cell["at_slo_per_s"] <= cell["high_per_s"]
        valid = [point["rate_per_s"] for point in cell["points"] if point["valid"]]
        assert len(valid) >= 2
        assert max(valid) >= cell["at_slo_per_s"] * 0.999
        assert all(point["latency_ms"] <= 60 for point in cell["points"] if point["valid"])
        assert all(point["reason"] for point in cell["points"] if not point["valid"])
        assert cell["policy"]["static"] == (role in ("baseline", "arch"))
        assert all(ms > 0 for samples in cell["service_ms"].values() for ms in samples)
        assert all(len(samples) == 2 * TIMED_BATCHES for samples in cell["service_ms"].values())  # of both sets
    assert set(served["cells"]["baseline"]["service_ms"]) == {"2"}
    assert set(served["cells"]["hw"]["service_ms"]) == {"1", "2", "3", "4"}


@pytest.mark.minutes
def test_every_request_is_kept_and_loadgens_words_beside_it(searched):
    _, artifacts = searched
    queries = pandas.read_parquet(artifacts / "queries.parquet")
    wanted = ["cell", "repeat", "rate", "issued_s", "queued_s", "started_s", "completed_s", "batch_size", "exited"]
    assert list(queries.columns) == wanted
    assert set(queries["cell"]) == set(ROLES)
    assert set(queries["repeat"]) == {0, 1}
    assert queries[queries["cell"].isin(["baseline", "arch"])]["batch_size"].max() <= 2
    assert not queries[queries["cell"] == "baseline"]["exited"].any()
    words = (artifacts / "loadgen" / "combined" / "summary.txt").read_text()
    assert "Result is : VALID" in words and "seed 1: valid" in words
    assert (artifacts / "figures" / "latency_rate.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.minutes
def test_the_early_exit_that_serves_says_who_left_and_what_it_saved_between_its_bounds(searched):
    row, _ = searched
    assert 0 < row["arch/load/exit_rate"] < 1
    assert 0 < row["arch/load/saved_work_share"] < 1
    assert row["arch/load/host_sync_ms"] > 0
    assert 0 < row["arch/load/exit_threshold"] < 1
    for exits in ("none", "measured", "all"):
        assert row[f"arch/load/saturated_{exits}_exit_per_s"] > 1
    assert "baseline/load/exit_rate" not in row or pandas.isna(row["baseline/load/exit_rate"])


@pytest.mark.parametrize(("role", "prefix"), [("baseline", "baseline/"), ("hw", "hw/")])
def test_at_a_low_rate_requests_queue_as_theory_says(low_load, role, prefix):
    """Static, one at a time: M/D/1. Batched: a lone request waits for the delay of 2 ms, then for its batch."""
    row, artifacts = low_load
    queries = pandas.read_parquet(artifacts / "queries.parquet")
    queries = queries[queries["cell"] == role]
    service_s = float((queries["completed_s"] - queries["started_s"]).mean())
    wait_s = float((queries["started_s"] - queries["issued_s"]).mean())
    policy = BatchPolicy(1, static=True) if role == "baseline" else BatchPolicy(4, max_queue_delay_us=2000)
    times = {size: [service_s] for size in policy.sizes()}
    simulated = [
        simulate(one["issued_s"].to_numpy(), times, policy).wait_s.mean() for _, one in queries.groupby("repeat")
    ]
    assert wait_s == pytest.approx(float(np.mean(simulated)), rel=0.5, abs=5e-3)
    if role == "baseline":
        assert wait_s == pytest.approx(mean_wait_md1_s(40, service_s), rel=1.0, abs=5e-3)
        assert row["baseline/load/padding_share"] == 0
    else:
        assert (queries["started_s"] - queries["issued_s"]).quantile(0.25) >= 0.0019
    assert row[f"{prefix}load/utilisation"] < 0.8


def test_a_fixed_rate_has_latencies_but_no_factor(low_load):
    row, _ = low_load
    assert row["boundary"] == "completed"
    assert row["baseline/throughput/completed"] == pytest.approx(40, rel=0.3)
    assert row["hw/latency_ms/p90"] > 0
    assert row["scenario.seed"] == "0"
    assert "interaction/factor" not in row or pandas.isna(row["interaction/factor"])


@pytest.mark.minutes
def test_an_overloaded_cell_is_a_result_with_its_reason(swept, store_root):
    row, artifacts = run_of(
        swept, store_root, "hw=dynamic_batching", "scenario.rate_per_s=50000", "scenario.slo_ms=5",
        "scenario.max_duration_s=1", "scenario.repeats=1", "sweep_name=over",
    )  # fmt: skip
    assert row["loadgen"].startswith("INVALID: baseline: ")
    assert "the bound is 5 ms" in row["loadgen"] or "shed" in row["loadgen"]
    points = json.loads((artifacts / "serving.json").read_text())["cells"]["baseline"]["points"]
    assert [point["valid"] for point in points] == [False]

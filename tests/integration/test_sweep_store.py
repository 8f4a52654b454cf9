"""What a sweep leaves: one row a quartet under the contract's names, and the samples from which its numbers follow."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas
import pyarrow.parquet
import pytest
from mlflow import MlflowClient
from omegaconf import OmegaConf

import harness
from harness.config import from_omegaconf
from harness.measure.settings import CPU_RESTARTS
from harness.stats import estimate, percentile
from harness.stats.interaction import for_others
from harness.stats.roles import ROLES
from harness.sweep.command_line import compose_jobs
from harness.tracking.load import load

CELL_METRICS = (
    "throughput/wall", "latency_ms/mean", "model/params_m", "model/gmacs", "build/export_s",
    "build/engine_s", "build/load_s", "build/engine_mb", "build/cache_hit", "fidelity/max_abs", "fidelity/cosine",
    "fidelity/top1_agreement", "host/peak_memory_mb",
    "roofline/gflop_per_image", "roofline/mb_per_image",
)  # fmt: skip
QUARTET_METRICS = (
    *(f"gain/{boundary}{name}" for boundary in ("", "wall_") for name in ("arch", "hw", "combined", "expected")),
    *(f"interaction/{boundary}{name}" for boundary in ("", "wall_") for name in ("factor", "low", "high")),
    "interaction/p_value", "interaction/p_holm",
    "measure/blocks", "measure/restarts", "measure/builds", "measure/seconds",
    "machine/copy_gb_s", "machine/matmul_fp32_tflops",
)  # fmt: skip
PARAMS = {
    "model": "densenet_tiny", "arch": "early_exit", "batch_size": "2", "engine": "onnxruntime", "reference": "eager",
    "scenario": "fixed", "arch.early_exit.after_block": "2", "arch.early_exit.exit_share": "0.5",
}  # fmt: skip
TAGS = ("boundary", "verdict", "verdict_holm", "converged", "engine_version", "gpu", "git_sha")
ARTIFACTS = {"samples.parquet", "interaction.json", "environment.json", "config.yaml"}


@pytest.fixture(scope="module")
def frame(study, store_root) -> pandas.DataFrame:
    assert study.returncode == 0, study.stdout + study.stderr
    return load("study", str(store_root)).set_index("hw", drop=False)  # what was logged, and no column more


@pytest.fixture(scope="module", params=["fusion", "fp16"])
def row(request, frame) -> pandas.Series:
    return frame.loc[request.param]


@pytest.fixture(scope="module")
def folder(row, store_root, tmp_path_factory) -> Path:
    """Return the artifacts of a row, fetched through MLflow."""
    client = MlflowClient(f"sqlite:///{store_root}/mlflow.db")
    return Path(client.download_artifacts(row["run_id"], "", str(tmp_path_factory.mktemp("artifacts"))))


@pytest.fixture(scope="module")
def throughput(row, folder) -> np.ndarray:
    """Return images/s [blocks, cells], computed from the file alone."""
    table = pyarrow.parquet.read_table(folder / "samples.parquet")
    batch_size = int(table.schema.metadata[b"batch_size"])
    visits = table.to_pandas().groupby(["block", "cell"])["milliseconds"].agg(["count", "sum"])
    return (batch_size * visits["count"] / (visits["sum"] / 1e3)).unstack()[list(ROLES)].to_numpy()


def test_a_study_is_collected_with_what_it_committed_itself_to(frame, store_root, repository, tmp_path):
    address = {"MLFLOW_TRACKING_URI": f"sqlite:///{store_root}/mlflow.db"}
    script = repository / "experiments" / "collect.py"
    done = subprocess.run(
        [sys.executable, str(script), "--sweep", "study", "--out", "collected"],
        cwd=tmp_path, env={**os.environ, **address}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2 quartets, ")
    collected = {path.name for path in (tmp_path / "collected").iterdir()}
    assert collected >= {"plan.json", "results.csv", "samples.parquet", "interaction.json", "config.yaml"}
    assert len(pandas.read_csv(tmp_path / "collected" / "results.csv")) == len(frame)


def test_there_is_one_finished_row_a_quartet(frame):
    assert frame["status"].tolist() == ["FINISHED", "FINISHED"]
    assert frame["hw"].tolist() == ["fusion", "fp16"]
    assert frame["run_name"].tolist() == ["early_exit x fusion b2", "early_exit x fp16 b2"]
    assert set(frame["kind"]) == {"quartet"}


def test_every_metric_that_applies_on_a_cpu_has_a_number(row):
    names = [f"{prefix}{name}" for prefix in ("", "baseline/", "arch/", "hw/") for name in CELL_METRICS]
    missing = [name for name in (*names, *QUARTET_METRICS) if not math.isfinite(row.get(name, math.nan))]
    assert missing == []


NOT_MEASURED = {"arch.early_exit.max_accuracy_drop", "device"}  # what was asked, and where it ran


def test_what_a_cpu_does_not_have_is_absent(frame):
    known_only_on_a_gpu = ("device", "e2e", "end_to_end", "host_share", "gpu/", "accuracy", "matmul_fp16")
    measured = set(frame.columns) - NOT_MEASURED
    assert [name for name in measured if any(word in name for word in known_only_on_a_gpu)] == []


def test_params_are_what_was_asked_with_the_options_of_the_techniques_that_are_on(row):
    assert {name: row[name] for name in PARAMS} == PARAMS
    assert row["precision"] == ("fp16" if row["hw"] == "fp16" else "fp32")
    assert row["protocol.budget_s"] == "3.0"
    assert (row["protocol.half_width"], row["protocol.warmup_tolerance"]) == ("0.05", "0.05")  # given; a CPU's own
    assert not [name for name in row.index if name.startswith(("arch.grouped", "arch.low_rank"))]


def test_tags_say_how_it_was_measured(row):
    missing = [name for name in TAGS if not isinstance(row.get(name), str) or not row[name]]
    assert missing == []
    assert (row["boundary"], row["gpu"]) == ("wall", "none")
    assert row["converged"] in ("true", "false")
    assert row["verdict"] in ("amplify", "conflict", "independent", "inconclusive")


def test_every_cell_says_how_much_memory_its_process_held(row):
    assert all(50 < row[f"{prefix}host/peak_memory_mb"] < 20_000 for prefix in ("", "baseline/", "arch/", "hw/"))


def test_every_cell_has_its_place_under_the_roof_and_it_follows_from_what_is_logged(row):
    for role, prefix in zip(ROLES, ("baseline/", "arch/", "hw/", ""), strict=True):
        gflop, mb = row[f"{prefix}roofline/gflop_per_image"], row[f"{prefix}roofline/mb_per_image"]
        assert gflop == pytest.approx(2 * row[f"{prefix}model/gmacs"], rel=1e-9)
        if row["hw"] == "fp16" and role in ("hw", "combined"):  # a CPU has no ceiling of its own in fp16
            assert math.isnan(row.get(f"{prefix}roofline/share", math.nan))
            continue
        compute_s, memory_s = gflop / row["machine/matmul_fp32_tflops"] / 1e3, mb / row["machine/copy_gb_s"] / 1e3
        share = max(compute_s, memory_s) * row[f"{prefix}throughput/wall"]
        assert row[f"{prefix}roofline/share"] == pytest.approx(share, rel=1e-9)
        assert row[f"{prefix}roofline/memory_bound"] == float(memory_s > compute_s)
    assert row["roofline/mb_per_image"] < row["hw/roofline/mb_per_image"]  # half of the images leave early


def test_what_stands_beside_the_other_quartet_follows_from_both_p_values(frame):
    finished = frame.sort_values("interaction/p_value")
    low, high = finished["interaction/p_value"]
    assert finished["interaction/p_holm"].tolist() == [min(1, 2 * low), max(min(1, 2 * low), high)]
    for _, one in frame.iterrows():
        stands = one["interaction/p_holm"] < 0.05
        assert one["verdict_holm"] == (one["verdict"] if stands else "inconclusive")


def test_fp16_on_a_cpu_is_marked_degraded_and_fusion_is_not(frame):
    assert "fp16 emulated" in frame.loc["fp16", "degraded"]
    assert "hw: " in frame.loc["fp16", "degraded"]
    assert not frame.loc["fusion"].get("degraded")


def test_the_artifacts_are_there(folder):
    assert {path.name for path in folder.iterdir()} >= ARTIFACTS


def test_the_why_multiplies_to_the_factor_and_is_told_in_a_sentence(row, folder):
    why = json.loads((folder / "interaction.json").read_text())["why"]
    pieces = [why["log_host"], why["log_amdahl"], *why["log_parts"].values()]
    assert math.exp(sum(pieces)) == pytest.approx(row["interaction/factor"], rel=1e-9)
    assert row["why"] == " ".join(why["sentences"])
    assert "Kernels or nodes a batch" in row["why"]
    assert row["why/attributed"] > 0.9
    assert {"stem", "dense block 1", "transition 1", "exit head", "head"} <= set(why["part_ms"])


def test_the_sweeps_own_run_holds_page_figures_table_and_answers(frame, store_root):
    client = MlflowClient(f"sqlite:///{store_root}/mlflow.db")
    parent = client.get_run(client.get_run(frame["run_id"].iloc[0]).data.tags["mlflow.parentRunId"])
    names = {one.path for one in client.list_artifacts(parent.info.run_id)}
    assert {"report.html", "figures", "matrix.json"} <= names
    figures = {one.path for one in client.list_artifacts(parent.info.run_id, "figures")}
    assert {"figures/heatmap1.png", "figures/heatmap1.svg", "figures/gains.png", "figures/pareto.png"} <= figures
    note = parent.data.tags["mlflow.note.content"]
    assert "Which combination should be used?" in note
    assert all(f"{factor:.3f}" in note for factor in frame["interaction/factor"])


def test_throughputs_gains_and_factor_follow_from_the_samples(row, throughput):
    means = dict(zip(ROLES, np.exp(np.log(throughput).mean(axis=0)), strict=True))
    for role, prefix in zip(ROLES, ("baseline/", "arch/", "hw/", ""), strict=True):
        assert row[f"{prefix}throughput/wall"] == pytest.approx(means[role], rel=1e-9)
    gains = {role: means[role] / means["baseline"] for role in ROLES[1:]}
    gains["expected"] = gains["arch"] * gains["hw"]
    for name, value in gains.items():
        assert row[f"gain/{name}"] == row[f"gain/wall_{name}"] == pytest.approx(value, rel=1e-9)
    assert row["interaction/factor"] == pytest.approx(gains["combined"] / gains["expected"], rel=1e-9)


def test_interval_and_verdict_follow_from_the_samples(row, folder, throughput):
    samples = pandas.read_parquet(folder / "samples.parquet")
    of_blocks = estimate(throughput, samples.groupby("block")["restart"].first().to_numpy())
    found = for_others(of_blocks, CPU_RESTARTS, "restart")
    for name in ("factor", "low", "high"):
        assert row[f"interaction/{name}"] == pytest.approx(getattr(found, name), rel=1e-9)
    assert row["verdict"] == str(found.verdict)
    assert row["measure/half_width"] == pytest.approx(of_blocks.half_width, rel=1e-9)
    assert row["measure/blocks"] == found.blocks == samples["block"].nunique() >= 5


def test_latencies_follow_from_the_samples(row, folder):
    samples = pandas.read_parquet(folder / "samples.parquet")
    for role, prefix in zip(ROLES, ("baseline/", "arch/", "hw/", ""), strict=True):
        ms = samples[samples["cell"] == role]["milliseconds"].to_numpy()
        assert row[f"{prefix}latency_ms/mean"] == pytest.approx(ms.mean(), rel=1e-9)
        for q in (50, 90, 95, 99):
            expected = percentile(ms, q / 100)
            logged = row.get(f"{prefix}latency_ms/p{q}", math.nan)
            if expected is None:
                assert math.isnan(logged)
            else:
                assert logged == pytest.approx(expected.value, rel=1e-9)


def test_the_details_hold_the_proof_of_every_level(row, folder):
    details = json.loads((folder / "interaction.json").read_text())
    cells = details["cells"]
    assert {role: cell["engine"] for role, cell in cells.items()} == {
        "baseline": "eager", "arch": "eager", "hw": "onnxruntime", "combined": "onnxruntime",
    }  # fmt: skip
    assert [len(cells[role]["stages"]) for role in ROLES] == [1, 2, 1, 2]
    precision = "fp16" if row["hw"] == "fp16" else "fp32"
    assert [cells[role]["levels"]["precision"] for role in ROLES] == ["fp32", "fp32", precision, precision]
    assert cells["hw"]["stages"][0]["proof"]["level"] == (
        "ORT_ENABLE_ALL" if row["hw"] == "fusion" else "ORT_ENABLE_BASIC"
    )
    assert details["interaction"]["wall"]["factor"] == row["interaction/factor"]
    assert {role: len(ms) for role, ms in details["coursework_ms"].items()} == dict.fromkeys(ROLES, 20)


def test_the_usual_recipe_stands_beside_ours(row, folder):
    series = json.loads((folder / "interaction.json").read_text())["coursework_ms"]
    means = {role: 1 / sum(ms) for role, ms in series.items()}
    factor = means["combined"] * means["baseline"] / (means["arch"] * means["hw"])
    assert row["coursework/factor"] == pytest.approx(factor, rel=1e-9)
    thresholds = "amplify" if factor > 1.05 else "conflict" if factor < 0.95 else "independent"
    assert row["coursework_verdict"] == thresholds


def test_the_environment_names_machine_and_versions(folder):
    found = json.loads((folder / "environment.json").read_text())
    assert found["gpu"] is None
    assert found["harness"] == harness.__version__
    assert found["cpu"]["cores_usable"] >= 1
    assert {"torch", "onnx", "onnxruntime", "numpy", "mlflow"} <= set(found["packages"])


def test_the_resolved_config_is_the_whole_config_of_the_quartet(row, folder):
    config = from_omegaconf(OmegaConf.load(folder / "config.yaml"))
    assert config.arch.early_exit.enabled
    assert (config.hw.fp16.enabled, config.hw.fusion.enabled) == (row["hw"] == "fp16", row["hw"] == "fusion")
    (job,) = compose_jobs(
        [
            "model=densenet_tiny",
            "batch_size=2",
            "arch=early_exit",
            f"hw={row['hw']}",
            "protocol=quick",
            "protocol.budget_s=3",
            "protocol.min_blocks=5",
            "protocol.max_blocks=8",
            "protocol.slice_s=0.02",
            "protocol.warmup_max_s=0.5",
            "protocol.coursework=true",
            "protocol.ceilings=true",
            "sweep_name=study",
            f"tracking.root={config.tracking.root}",
            f"cache.dir={config.cache.dir}",
        ]
    )
    assert job.config == config


def test_early_exit_states_its_share_and_what_it_saves(row):
    assert row["early_exit/exit_share"] == row["arch/early_exit/exit_share"] == 0.5
    assert row["early_exit/gmacs_all_exit"] < row["model/gmacs"] < row["early_exit/gmacs_no_exit"]
    assert math.isnan(row.get("baseline/early_exit/exit_share", math.nan))


def test_the_sweep_itself_is_the_parent_and_says_what_was_run(frame, store_root):
    client = MlflowClient(f"sqlite:///{store_root}/mlflow.db")
    parents = {client.get_run(run_id).data.tags["mlflow.parentRunId"] for run_id in frame["run_id"]}
    (parent,) = parents
    run = client.get_run(parent)
    assert (run.info.run_name, run.info.status) == ("study", "FINISHED")
    assert run.data.tags["kind"] == "sweep"
    assert "hw=fusion,fp16" in run.data.tags["command"]
    assert harness.load(parent, str(store_root))["run_id"].tolist() == frame["run_id"].tolist()

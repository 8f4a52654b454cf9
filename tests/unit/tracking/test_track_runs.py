"""Writing runs: the sweep and its quartets, limits, reasons, many writers."""

import multiprocessing
from collections import Counter

import pytest

from harness.results.row import QuartetRecord
from harness.tracking.runs import children, finish, finish_sweep, log_quartet, start_quartet, start_sweep
from harness.tracking.store import Store


def metrics_of(number: int) -> dict[str, float]:
    return {f"gain/{name}": number + index / 7 for index, name in enumerate(("arch", "hw", "combined"))}


def test_a_quartet_is_a_child_of_its_sweep_with_all_that_was_logged(store, tmp_path):
    sweep = start_sweep(store, "demo", {"git_sha": "abc"}, {"seed": 1})
    run_id = start_quartet(store, sweep, "grouped+fp16", {"arch": "grouped"}, {"gpu": "none"})
    samples, figure = tmp_path / "samples.parquet", tmp_path / "0001.png"
    samples.write_bytes(b"samples")
    figure.write_bytes(b"figure")
    record = QuartetRecord(
        params={"hw": "fp16", "batch_size": 8},
        metrics={"interaction/factor": 1.0123456789012345, "throughput/wall": 100},
        tags={"verdict": "multiplicative", "converged": True},
        artifacts={"samples.parquet": samples, "figures/factor.png": figure},
        description="**Independent**: the gains multiply.",
    )
    log_quartet(store, run_id, record)
    finish(store, run_id, "FINISHED")

    (run,) = children(store, sweep)
    assert run.info.run_id == run_id
    assert (run.info.run_name, run.info.status) == ("grouped+fp16", "FINISHED")
    assert run.data.params == {"arch": "grouped", "hw": "fp16", "batch_size": "8"}
    assert run.data.metrics == dict(record.metrics)
    assert run.data.tags.items() >= {
        "kind": "quartet", "mlflow.parentRunId": sweep, "gpu": "none", "verdict": "multiplicative",
        "converged": "True", "mlflow.note.content": record.description,
    }.items()  # fmt: skip
    mlflow = store.client()
    assert mlflow.get_run(sweep).data.tags["kind"] == "sweep"
    assert [file.path for file in mlflow.list_artifacts(run_id)] == ["figures", "samples.parquet"]
    assert [file.path for file in mlflow.list_artifacts(run_id, "figures")] == ["figures/factor.png"]


def test_a_description_shows_its_artifacts_as_pictures_at_the_addresses_of_mlflows_page(store, tmp_path):
    run_id = start_quartet(store, start_sweep(store, "demo", {}, {}), "a", {}, {})
    (tmp_path / "a.png").write_bytes(b"figure")
    text = "**so**  \n![bars](figures/a b.png) ![bars](figures/a.png) [page](report.html)"
    record = QuartetRecord(artifacts={"figures/a.png": tmp_path / "a.png"}, description=text)
    log_quartet(store, run_id, record)
    shown = store.client().get_run(run_id).data.tags["mlflow.note.content"]
    assert shown == text.replace("(figures/a.png)", f"(get-artifact?path=figures/a.png&run_uuid={run_id})")


def test_a_metric_that_does_not_apply_is_absent(store):
    run_id = start_quartet(store, start_sweep(store, "demo", {}, {}), "a", {}, {})
    log_quartet(store, run_id, QuartetRecord(metrics={"a": float("nan"), "b": float("inf"), "c": 0.0}))
    assert store.client().get_run(run_id).data.metrics == {"c": 0.0}


def test_a_record_beyond_the_limits_of_one_batch_arrives_whole(store):
    run_id = start_quartet(store, start_sweep(store, "demo", {}, {}), "a", {}, {})
    record = QuartetRecord(
        params={f"p{i}": "v" * (7000 if i == 0 else 1) for i in range(250)},
        metrics={f"m{i}": float(i) for i in range(1900)},
        tags={f"t{i}": i for i in range(130)},
    )
    log_quartet(store, run_id, record)
    data = store.client().get_run(run_id).data
    assert data.metrics == dict(record.metrics)
    assert data.params.keys() == record.params.keys()
    assert data.params["p0"] == "v" * 5999 + "…"
    assert data.tags.items() >= {key: str(value) for key, value in record.tags.items()}.items()


def test_a_failed_quartet_says_why_within_mlflows_limit(store):
    from mlflow.utils.validation import MAX_TAG_VAL_LENGTH

    run_id = start_quartet(store, start_sweep(store, "demo", {}, {}), "a", {}, {})
    with pytest.raises(ValueError, match="says why"):
        finish(store, run_id, "FAILED")
    finish(store, run_id, "FAILED", "TensorRT refused the layer: " + "x" * 20_000)
    run = store.client().get_run(run_id)
    assert run.info.status == "FAILED"
    assert run.data.tags["error"].startswith("TensorRT refused the layer")
    assert len(run.data.tags["error"]) == MAX_TAG_VAL_LENGTH


def test_a_sweep_is_finished_only_if_all_its_quartets_are(store):
    good = start_sweep(store, "good", {}, {})
    finish(store, start_quartet(store, good, "a", {}, {}), "FINISHED")
    assert finish_sweep(store, good) == {"FINISHED": 1}

    mixed = start_sweep(store, "mixed", {}, {})
    finish(store, start_quartet(store, mixed, "a", {}, {}), "FINISHED")
    finish(store, start_quartet(store, mixed, "b", {}, {}), "FAILED", "no such layer")
    orphan = start_quartet(store, mixed, "c", {}, {})
    assert finish_sweep(store, mixed) == {"FINISHED": 1, "FAILED": 1, "KILLED": 1}

    empty = start_sweep(store, "empty", {}, {})
    assert finish_sweep(store, empty) == {}

    mlflow = store.client()
    assert [mlflow.get_run(sweep).info.status for sweep in (good, mixed, empty)] == [
        "FINISHED", "FAILED", "FAILED",
    ]  # fmt: skip
    assert mlflow.get_run(mixed).data.tags["error"] == "2 of 3 quartets failed"
    assert mlflow.get_run(orphan).info.status == "KILLED"


def test_children_are_paged(store, monkeypatch):
    monkeypatch.setattr("harness.tracking.runs._PAGE", 3)
    sweep = start_sweep(store, "demo", {}, {})
    other = start_sweep(store, "other", {}, {})
    started = [start_quartet(store, sweep, f"run {i}", {}, {}) for i in range(10)]
    start_quartet(store, other, "not mine", {}, {})
    assert sorted(run.info.run_id for run in children(store, sweep)) == sorted(started)


def _write(store: Store, sweep: str, writer: int, count: int) -> None:
    for number in range(count):
        run_id = start_quartet(store, sweep, f"{writer}-{number}", {"writer": writer, "number": number}, {})
        log_quartet(store, run_id, QuartetRecord(metrics=metrics_of(number), tags={"writer": writer}))
        finish(store, run_id, "FINISHED")


@pytest.mark.spawned
@pytest.mark.slow
def test_four_writing_processes_lose_and_double_nothing(store):
    sweep = start_sweep(store, "demo", {}, {})
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_write, args=(store, sweep, writer, 8)) for writer in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4

    runs = children(store, sweep)
    names = Counter(run.info.run_name for run in runs)
    assert names == Counter({f"{writer}-{number}": 1 for writer in range(4) for number in range(8)})
    assert all(run.data.metrics == metrics_of(int(run.data.params["number"])) for run in runs)
    assert finish_sweep(store, sweep) == {"FINISHED": 32}

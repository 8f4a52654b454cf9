"""Reading a sweep back: the right sweep, exactly what was logged, a clear refusal where there is none."""

import math

import pytest

import harness
from harness.results.metrics import declared
from harness.results.row import OF_SWEEPS, PARAMS, TAGS, QuartetRecord
from harness.system.errors import UserError
from harness.tracking.runs import finish, log_quartet, start_quartet, start_sweep


def quartet(store, sweep, name, **record):
    run_id = start_quartet(store, sweep, name, {}, {})
    log_quartet(store, run_id, QuartetRecord(**record))
    finish(store, run_id, "FINISHED")
    return run_id


def test_a_row_is_exactly_what_mlflow_holds(store):
    sweep = start_sweep(store, "demo", {}, {})
    factor = math.nextafter(1.0, 2.0)
    first = quartet(
        store,
        sweep,
        "grouped",
        params={"arch": "grouped", "batch_size": 8},
        metrics={"interaction/factor": factor, "throughput/wall": 1e-300},
        tags={"verdict": "independent"},
    )
    second = quartet(store, sweep, "pruned", params={"arch": "pruned"}, metrics={"throughput/wall": 2.5})

    table = harness.load(sweep, store.uri)
    assert list(table["run_id"]) == [first, second]
    assert list(table["status"]) == ["FINISHED"] * 2
    assert list(table["arch"]) == ["grouped", "pruned"]
    assert table["batch_size"][0] == "8"
    assert table["interaction/factor"][0] == factor
    assert math.isnan(table["interaction/factor"][1])
    assert list(table["throughput/wall"]) == [1e-300, 2.5]
    assert list(table["verdict"]) == ["independent", None]
    mlflow = store.client()
    for row in table.to_dict("records"):
        run = mlflow.get_run(row["run_id"])
        assert row["start_time"].timestamp() * 1000 == run.info.start_time
        assert all(row[name] == value for name, value in run.data.metrics.items())
        assert all(row[name] == value for name, value in run.data.params.items())
    assert not [column for column in table.columns if column.startswith("mlflow.")]


def test_every_declared_column_is_there_whatever_was_measured(store):
    sweep = start_sweep(store, "demo", {}, {})
    quartet(store, sweep, "little", metrics={"throughput/wall": 1.5}, tags={"mine": "kept"})
    table = harness.load(sweep, store.uri)
    absent = ["interaction/factor", "baseline/accuracy/top1", "hw/gpu/energy_j_per_image", "build/cache_hit"]
    assert table[absent].isna().all(axis=None) and all(table[name].dtype == float for name in absent)
    for name in ("degraded", "verdict", "untrained", "arch.grouped.groups", "protocol.budget_s", "scenario.slo_ms"):
        assert list(table[name]) == [None]
    for metric in declared():
        assert set(metric.names) <= set(table)
    assert {*PARAMS, *TAGS} - set(OF_SWEEPS) <= set(table)
    assert not set(OF_SWEEPS) & set(table)
    assert (table["throughput/wall"][0], table["mine"][0]) == (1.5, "kept")
    assert len(set(table.columns)) == len(table.columns)
    empty = harness.load(start_sweep(store, "none yet", {}, {}), store.uri)
    assert len(empty) == 0 and set(table.columns) - {"mine"} == set(empty.columns)


def test_a_taken_name_gets_its_kind_in_front(store):
    sweep = start_sweep(store, "demo", {}, {})
    quartet(store, sweep, "a", metrics={"x": 1.0}, params={"x": "param"}, tags={"x": "tag", "status": "tag"})
    (row,) = harness.load(sweep, store.uri).to_dict("records")
    assert (row["x"], row["params.x"], row["tags.x"]) == (1.0, "param", "tag")
    assert (row["status"], row["tags.status"]) == ("FINISHED", "tag")


def test_a_sweep_is_found_by_id_by_name_and_as_the_newest(store, tracking):
    sweeps = [start_sweep(store, name, {}, {}) for name in ("same", "same", "last")]
    rows = [quartet(store, sweep, "a") for sweep in sweeps]
    assert list(harness.load(sweeps[0], store.uri)["run_id"]) == [rows[0]]
    assert list(harness.load("same", store.uri)["run_id"]) == [rows[1]]
    assert list(harness.load(uri=store.uri)["run_id"]) == [rows[2]]
    assert list(harness.load()["run_id"]) == [rows[2]]  # mlruns in the current folder
    assert list(harness.load("last", tracking.root)["run_id"]) == [rows[2]]


def test_an_empty_sweep_is_an_empty_table(store):
    start_sweep(store, "demo", {}, {})
    assert len(harness.load("demo", store.uri)) == 0


def test_no_store_no_sweep_and_an_unknown_name_are_refused(store, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="no sweep"):
        harness.load(uri=store.uri)
    start_sweep(store, "demo", {}, {})
    with pytest.raises(UserError, match=r"no sweep 'dmeo'.*there are: demo"):
        harness.load("dmeo", store.uri)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="nothing measured yet"):
        harness.load()
    assert list((tmp_path / "elsewhere").iterdir()) == []

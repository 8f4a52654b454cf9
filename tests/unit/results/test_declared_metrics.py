"""A metric is declared once: what is logged is declared, what is declared is logged, and every table shows it."""

from __future__ import annotations

import re
from dataclasses import replace

import pandas
import pytest

from harness.report.page import cell_table
from harness.report.quartets import quartets
from harness.results import metrics as registry
from harness.results.cells import cost_metrics
from harness.results.metrics import HIGHER, Column, Metric, declare, declared, find_metric
from harness.results.row import PARAMS, TAGS
from harness.techniques.arch.exit_policy import ExitPolicy
from harness.tracking.view import state

# columns that `harness.load` adds, and what experiments/collect.py does
OURS = {"run_id", "run_name", "status", "start_time", "sweep_name"}
OPTION = re.compile(r"(arch|hw|protocol|scenario)\.\w+")


def undeclared(columns):
    """Return the columns of a sweep's table that are neither a metric nor a param nor a tag."""
    plain = {re.sub(r"^(metrics|params|tags)\.", "", name) for name in columns}
    unknown = {name for name in plain if name not in {*PARAMS, *TAGS, *OURS} and not OPTION.match(name)}
    return {name for name in unknown if find_metric(name) is None}


@pytest.fixture(scope="module")
def tables(repository):
    """Return the committed studies' tables of quartets."""
    found = [pandas.read_csv(path) for path in sorted(repository.glob("experiments/**/results.csv"))]
    return [table for table in found if "quartet_key" in table or "verdict" in table]


@pytest.fixture
def another(monkeypatch):
    """Return a metric that is declared for the time of a test."""
    monkeypatch.setattr(registry, "_DECLARED", dict(registry._DECLARED))
    metric = Metric(
        "gpu/occupancy", "share", HIGHER, "of the multiprocessors, mean over kernels",
        Column("occupancy", ".1%", places=("details",)),
    )  # fmt: skip
    declare(metric)
    return metric


def test_every_column_of_the_committed_studies_is_declared(tables):
    assert len(tables) >= 5
    assert {name for table in tables for name in undeclared(table.columns)} == set()


def test_every_column_of_a_sweep_is_declared(study, store_root):
    import harness

    assert study.returncode == 0, study.stderr
    assert undeclared(harness.load("study", str(store_root)).columns) == set()


def test_a_metric_that_is_logged_and_not_declared_is_found():
    assert undeclared(["gpu/power_w", "hw/latency_ms/p50", "hw/gpu/occupancy", "verdict"]) == {"hw/gpu/occupancy"}


def test_every_declared_metric_is_logged(tables, study, store_root, prepared):
    """By a committed study, by a small sweep, or by one of the two computations that neither of them has."""
    import harness

    plan, cells = prepared("arch=early_exit", "reference=engine")
    cell = list(cells.values())[-1]
    by_threshold = replace(cell, router=ExitPolicy("threshold", 0.5, 0.5))
    frames = [*tables, harness.load("study", str(store_root))]
    logged = {name for frame in frames for name in frame if frame[name].notna().any()}
    logged |= set(cost_metrics("", by_threshold, plan.config.batch_size))
    seen = {registry._PREFIX.sub("", name) for name in logged}
    names = {name for metric in declared() for name in metric.names}
    # tests/unit/serving/test_record.py measures under the first three, tests/unit/sweep/test_family.py logs p_bh;
    # test_cell_metrics.py, test_roofline_metrics.py, test_why.py and
    # tests/unit/measure/{test_gpu_readings,test_score}.py what no committed study has yet
    elsewhere = re.compile(
        "/(offline|single_stream|completed|p_bh$|.*sustained|.*capped$|clock_mhz$|clock_factor$|layers_(in_precision|weighted)$|"
        "matmul_(bf16_tflops|int8_tops)$|"
        "accuracy(_low|_high)?$|(device|e2e)_[a-z]+_(low|high)$)"
    )
    assert {name for name in names - seen if not elsewhere.search(name)} == set()


def test_a_metric_is_declared_once(another):
    with pytest.raises(ValueError, match="'gpu/occupancy' is declared twice"):
        declare(another)


def test_a_declared_metric_is_a_column_of_mlflows_table(another):
    assert "metrics.`gpu/occupancy`" in state()["selectedColumns"]


def test_a_declared_metric_is_a_column_of_the_reports_cells_where_it_was_measured(another):
    row = {"run_id": "a", "run_name": "a", "status": "FINISHED", "boundary": "wall", "engine": "eager",
           "throughput/wall": 100.0, "hw/throughput/wall": 90.0, "hw/gpu/occupancy": 0.5}  # fmt: skip
    (quartet,) = quartets(pandas.DataFrame([row]))
    headings, rows = cell_table(quartet)
    assert headings == ["images/s", "occupancy"]
    assert dict(rows) == {"hw": ["90.0", "50.0%"], "combined": ["100.0", "-"]}

"""Replicated builds: every engine is built anew, each build is measured in restarts of its own, and the interval knows.

On ONNX Runtime in all four cells, where a worker starts within half a second.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace

import pandas
import pytest

from called import run_quartet
from harness.measure.progress import Silent
from harness.measure.protocol import measure
from harness.results.analyse import analyse
from harness.stats import estimate
from harness.stats.roles import ROLES
from harness.stats.verdict import DECISION_LEVEL
from harness.sweep.build import build_quartet

QUARTET = ("arch=identity", "hw=identity", "reference=engine")
SETTINGS = (
    "protocol.builds=2", "protocol.slice_s=0.005", "protocol.warmup_max_s=0.1", "protocol.min_blocks=2",
    "protocol.max_blocks=2", "protocol.half_width=1e-9",
)  # fmt: skip


@pytest.fixture(scope="module")
def builds(prepared, cache):
    """Return (plan, the cells of build 0, those of build 1)."""
    plan, first = prepared(*QUARTET, *SETTINGS)
    return plan, first, build_quartet(plan, cache, Silent(), build=1)


@pytest.fixture(scope="module")
def measured(builds):
    """Return a measurement that asked for three restarts: with two builds that makes four."""
    plan, first, again = builds
    settings = replace(plan.config.protocol, restarts=3)
    return measure(list(first.values()), settings, "wall", Silent(), [list(again.values())])


def test_each_build_has_artifacts_of_its_own_from_the_same_exports(builds):
    _, first, again = builds
    folders = [artifact.path for cells in (first, again) for cell in cells.values() for artifact in cell.artifacts]
    assert len(folders) == len(set(folders)) == 8
    for role in ROLES:
        one, other = (cells[role].artifacts[0].plan for cells in (first, again))
        assert one.graph == other.graph
        assert other.instance == f"{one.instance} build 1".strip()
        assert replace(other, instance=one.instance) == one


def test_the_cells_of_each_build_are_those_that_are_loaded(builds, monkeypatch):
    """Each restart loads the artifacts of its own build: seen where the workers are given their specs."""
    plan, first, again = builds
    given: list[set] = []

    class Seen(Exception):
        pass

    def workers(specs):
        given.append({spec.artifacts[0].path for spec in specs})
        if len(given) == 2:
            raise Seen
        return real(specs)

    from harness.measure import protocol

    real = protocol.workers
    monkeypatch.setattr(protocol, "workers", workers)
    with pytest.raises(Seen):
        measure(list(first.values()), plan.config.protocol, "wall", Silent(), [list(again.values())])
    assert given == [{cell.artifacts[0].path for cell in cells.values()} for cells in (first, again)]


def test_restarts_are_nested_in_builds_as_many_in_each(measured):
    frame = measured.samples.frame()
    of_restart = frame.groupby("restart")["build"].unique().map(list).to_dict()
    assert of_restart == {0: [0], 1: [1], 2: [0], 3: [1]}
    assert measured.restarts == 4
    assert measured.samples.builds == frame.groupby("block")["build"].first().tolist()
    assert measured.samples.groups == frame.groupby("block")["restart"].first().tolist()


def test_the_interval_is_that_of_replicated_builds(builds, measured):
    plan = builds[0]
    samples = measured.samples
    found = analyse(measured, plan.config.protocol)
    interaction = found.interactions["wall"]
    throughput = samples.throughput("wall")
    assert interaction == estimate(throughput, samples.groups, builds=samples.builds, decision_level=DECISION_LEVEL)
    assert (interaction.builds, interaction.restarts) == (2, 4)
    assert (found.metrics["measure/builds"], found.metrics["measure/restarts"]) == (2, 4)
    assert found.metrics["interaction/p_value"] == interaction.p_value
    assert measured.standing.half_width == interaction.half_width


@pytest.mark.parametrize("count", [1, 2])
def test_a_quartet_is_built_as_often_as_its_protocol_says(count, planned, cache, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # the locks of this test alone
    plan = planned(*QUARTET, *SETTINGS, f"protocol.builds={count}", "protocol.min_blocks=6", "protocol.max_blocks=6")
    row = run_quartet(plan, cache, Silent(), tmp_path, "")
    assert (row.metrics["measure/builds"], row.metrics["measure/restarts"]) == (count, count)
    frame = pandas.read_parquet(row.artifacts["samples.parquet"])
    assert frame.groupby("build")["block"].nunique().to_dict() == dict.fromkeys(range(count), 6 // count)

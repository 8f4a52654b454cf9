"""A scenario is looked up by its name in one place, and is an object everywhere else."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

import harness
from called import run_quartet
from harness.config import packages
from harness.measure.progress import Silent
from harness.results.analyse import Analysis
from harness.sweep.command_line import compose_jobs
from harness.sweep.job import quartet_key
from harness.sweep.plan import plan_quartet
from harness.sweep.scenarios import names, scenario_of
from harness.sweep.scenarios.scenario import Scenario
from harness.system.errors import UserError

REGISTRY = "config/packages.py"
NAMES = frozenset(packages.ours(packages.SCENARIOS))


def comparisons(text: str) -> Iterator[int]:
    """Give the lines where code depends on a scenario's name: a comparison, a case, a table of them."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
        elif isinstance(node, ast.MatchValue):
            sides = [node.value]
        elif isinstance(node, ast.Dict):
            sides = [key for key in node.keys if key is not None]
        else:
            continue
        inner = [one for side in sides for one in (side.elts if isinstance(side, ast.Tuple | ast.Set) else [side])]
        named = any(isinstance(one, ast.Constant) and one.value in NAMES for one in inner)
        if named or any(ast.unparse(one).endswith(("scenario.name", "test.scenario")) for one in inner):
            yield node.lineno


def test_no_scenarios_name_is_compared_outside_the_registry():
    root = Path(harness.__file__).parent
    found = {
        f"{path.relative_to(root)}:{line}"
        for path in root.rglob("*.py")
        if str(path.relative_to(root)) != REGISTRY
        for line in comparisons(path.read_text())
    }
    assert found == set()


@pytest.mark.parametrize(
    "text",
    [
        "config.scenario.name != 'fixed'",
        "asked.name == 'server'",
        "name in ('offline', 'server')",
        "config.scenario.name == other",
        "test.scenario == KIND",
        "{'offline': 1, 'server': 2}[name]",
        "match name:\n    case 'single_stream':\n        pass",
    ],
)
def test_the_search_finds_each_way_to_depend_on_a_name(text):
    assert list(comparisons(text))


@pytest.mark.parametrize("text", ["name = 'server'", "['mlflow', 'server']", "load_test('offline', 3)"])
def test_a_name_that_is_only_given_is_no_comparison(text):
    assert not list(comparisons(text))


@dataclass(frozen=True)
class Answered:
    """What the toy scenario measures."""

    answers: dict[str, int]
    cells: dict = field(default_factory=dict)  # nothing was loaded
    telemetry: None = None
    note: str = "nothing was timed"


class Roll(Scenario):
    """A toy: each cell is called by its name and answers with the length of it."""

    def measure(self, plan, built, progress):
        progress.stage("call the roll")
        (cells,) = built
        return Answered({role: len(cell.name) for role, cell in cells.items()})

    def analyse(self, plan, measurement):
        return Analysis({"roll/cells": len(measurement.answers)}, {}, "roll", None, None)

    def metrics(self, row, plan, cells, measurement, analysis):
        row.metrics |= {f"{role}/roll/length": length for role, length in measurement.answers.items()}
        row.file("roll.txt").write_text("\n".join(measurement.answers))


@pytest.fixture
def with_roll(monkeypatch):
    """Register the toy as a package from outside would."""
    entry = SimpleNamespace(name="roll", value="toys:Roll", load=lambda: Roll, dist=None)
    registered = packages.registered
    more = {"harness.scenarios": {"roll": entry}}
    monkeypatch.setattr(packages, "registered", lambda group: {**registered(group), **more.get(group, {})})


def test_a_scenario_from_outside_is_composed_built_measured_and_has_its_metrics_in_the_row(with_roll, cache, tmp_path):
    overrides = ("model=densenet_tiny", "batch_size=2", "arch=identity", "hw=identity", "scenario=roll")
    (job,) = compose_jobs(overrides)
    plan = plan_quartet(job.config, "onnxruntime", "cpu")
    assert isinstance(scenario_of(plan.config), Roll)
    row = run_quartet(plan, cache, Silent(), tmp_path, job.text)
    assert (row.metrics["roll/cells"], row.metrics["combined/roll/length"]) == (4, 8)
    assert row.metrics["baseline/model/params_m"] > 0  # what every row has
    assert (row.tags["boundary"], row.tags["note"]) == ("roll", "nothing was timed")
    assert row.artifacts["roll.txt"].read_text() == "baseline\narch\nhw\ncombined"


def test_an_edit_of_a_scenario_from_outside_is_another_quartet(with_roll, planned, monkeypatch):
    (job,) = compose_jobs(("model=densenet_tiny", "batch_size=2", "hw=fusion", "scenario=roll"))
    plan = plan_quartet(job.config, "onnxruntime", "cpu")
    before = quartet_key(plan, None)
    monkeypatch.setattr(Roll, "__module__", "test_house")
    assert quartet_key(plan, None) != before


def test_an_unknown_name_is_refused_with_those_there_are(configured):
    config = configured()
    config.scenario.name = "burst"
    with pytest.raises(UserError, match=f"scenario=burst: choose one of {', '.join(names())}"):
        scenario_of(config)


def test_each_scenario_has_a_file_that_chooses_it(repository):
    assert {path.stem for path in (repository / "conf/scenario").glob("*.yaml")} == NAMES == set(names())

"""The A/A control runs under both references, and says no more of identical cells than their intervals allow."""

from __future__ import annotations

import pytest

import harness
from harness.stats.verdict import verdict


@pytest.fixture(scope="module")
def control(swept, store_root):
    """Return the rows of a small control: two quartets under each reference."""
    overrides = ("protocol.min_blocks=10", "protocol.max_blocks=12", "protocol.budget_s=6", "protocol.seed=0,1")
    done = swept("experiment=aa", "engine=onnxruntime", "sweep_name=control", *overrides)
    assert done.returncode == 0, done.stdout + done.stderr
    return harness.load("control", f"sqlite:///{store_root}/mlflow.db")


def test_a_verdict_says_no_more_than_its_interval(control):
    # how often it is wrong is for experiments/ to say: twelve blocks on a busy machine may well be
    assert len(control) == 4
    assert set(control["status"]) == {"FINISHED"}
    for _, row in control.iterrows():
        low, high = row["interaction/low"], row["interaction/high"]
        assert low < row["interaction/factor"] < high
        assert row["verdict"] in {"inconclusive", str(verdict(low, high))}


def test_each_cell_of_the_control_is_built_and_measured_on_its_own(control):
    assert sorted(control["reference"]) == ["eager", "eager", "engine", "engine"]
    assert sorted(control["protocol.seed"].astype(int)) == [0, 0, 1, 1]
    assert (control["measure/blocks"] >= 10).all()
    assert (control["gain/arch"] != 1).all()  # a cell that was measured once and used twice would be exactly 1


def test_the_usual_recipe_gives_a_verdict_of_its_own_beside_it(control):
    assert set(control["coursework_verdict"]) <= {"amplify", "conflict", "independent"}  # never a doubt
    assert (control["coursework/factor"] > 0).all()

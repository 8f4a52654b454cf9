"""The A/A control runs under both references, and says no more of identical cells than their intervals allow."""

from __future__ import annotations

import pytest

import harness
from harness.stats.verdict import verdict

# a worker of eager takes seconds to come up, and there are four in a quartet of that reference
REFERENCES = ["engine", pytest.param("both", marks=pytest.mark.minutes)]


@pytest.fixture(scope="module", params=REFERENCES)
def control(request, swept, store_root):
    """Return the rows of a small control: two quartets under a reference, or under each."""
    overrides = ("protocol.min_blocks=10", "protocol.max_blocks=12", "protocol.budget_s=6", "protocol.seed=0,1")
    name = f"control-{request.param}"
    overrides += () if request.param == "both" else (f"reference={request.param}",)
    done = swept("experiment=aa", "engine=onnxruntime", f"sweep_name={name}", *overrides)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = harness.load(name, f"sqlite:///{store_root}/mlflow.db")
    rows.attrs["references"] = ["eager", "engine"] if request.param == "both" else [request.param]
    return rows


def test_a_verdict_says_no_more_than_its_interval(control):
    # how often it is wrong is for experiments/ to say: twelve blocks on a busy machine may well be
    assert len(control) == 2 * len(control.attrs["references"])
    assert set(control["status"]) == {"FINISHED"}
    for _, row in control.iterrows():
        low, high = row["interaction/low"], row["interaction/high"]
        assert low < row["interaction/factor"] < high
        assert row["verdict"] in {"inconclusive", str(verdict(low, high))}


def test_each_cell_of_the_control_is_built_and_measured_on_its_own(control):
    references = control.attrs["references"]
    assert sorted(control["reference"]) == sorted(2 * references)
    assert sorted(control["protocol.seed"].astype(int)) == sorted([0, 1] * len(references))
    assert (control["measure/blocks"] >= 10).all()
    assert (control["gain/arch"] != 1).all()  # a cell that was measured once and used twice would be exactly 1


def test_the_usual_recipe_gives_a_verdict_of_its_own_beside_it(control):
    assert set(control["coursework_verdict"]) <= {"amplify", "conflict", "independent"}  # never a doubt
    assert (control["coursework/factor"] > 0).all()

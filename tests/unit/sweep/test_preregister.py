"""A sweep's margin, targets and plan are in its parent run before anything is measured."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest
from mlflow import MlflowClient

from harness.config import TrackingConfig
from harness.sweep import run
from harness.sweep.main import main
from harness.sweep.preregister import COMMITTED, FILE, commitments, plan_text
from harness.tracking.runs import sweeps
from harness.tracking.store import find_store


@pytest.fixture
def begun(tmp_path, monkeypatch, capsys):
    """Return a function: begun("batch_size=4") -> params and plan of a sweep that ends before its first block."""

    def make(*overrides):
        def ends(*_):
            raise KeyboardInterrupt

        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(run, "build_ahead", ends)
        asked = ("model=densenet_tiny", "arch=grouped", "hw=fusion", "engine=onnxruntime", *overrides)
        assert main(["-m", *asked]) == 130
        capsys.readouterr()
        store = find_store(TrackingConfig(root=str(tmp_path / "mlruns")))
        (sweep,) = sweeps(store)
        return sweep.data.params, MlflowClient(store.uri).download_artifacts(sweep.info.run_id, FILE, str(tmp_path))

    return make


def test_a_sweep_that_ends_before_its_first_block_has_its_margin_targets_and_plan(begun):
    params, path = begun("protocol.margin=0.04,0.05", "protocol.half_width=0.02", "protocol.family=bh")
    assert params["protocol.margin"] == "0.04, 0.05"
    assert (params["protocol.half_width"], params["protocol.family"]) == ("0.02", "bh")
    assert (params["protocol.level"], params["decision_level"], params["jobs"]) == ("0.95", "0.99", "2")
    with open(path, "rb") as file:
        text = file.read()
    assert params["plan_sha256"] == hashlib.sha256(text).hexdigest()
    quartets = json.loads(text)["quartets"]
    assert [one["protocol"]["margin"] for one in quartets] == [0.04, 0.05]
    assert {one["quartet"] for one in quartets} == {"grouped x fusion"}
    assert {one["boundary"] for one in quartets} == {"wall"}
    assert len({one["quartet_key"] for one in quartets}) == 2


def test_a_target_that_nobody_chose_is_committed_to_as_it_was_resolved(planned):
    plan = planned("arch=grouped", "hw=fusion")
    assert commitments([plan], "")["protocol.half_width"] == "0.03"  # the default of a CPU's wall clock


@pytest.mark.parametrize("name", [*COMMITTED, "max_blocks", "budget_s", "seed"])
def test_another_protocol_is_another_plan(planned, name):
    plan = planned("arch=grouped", "hw=fusion")
    protocol = plan.config.protocol
    value = "bh" if name == "family" else getattr(protocol, name) + 1
    other = replace(plan, config=replace(plan.config, protocol=replace(protocol, **{name: value})))
    digests = [commitments([each], plan_text([each], ["key"]))["plan_sha256"] for each in (plan, other)]
    assert digests[0] != digests[1]
    assert commitments([plan], plan_text([plan], ["key"]))["plan_sha256"] == digests[0]  # the same plan, the same hash

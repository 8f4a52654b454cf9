"""An option that would change nothing beside the others is refused in one line, in every command that has such."""

from __future__ import annotations

from importlib import import_module

import pytest

from harness.networks.data import LABELLED, READ
from harness.sweep.command_line import compose_jobs, compose_sweep
from harness.sweep.refusals import plan_sweep
from harness.system.errors import UserError

STUDY = "experiments/aa_h200"
IDLE = {
    "report limits": ("harness.report.command", [STUDY, STUDY, "--max-p99-ms", "3"], "limits the best combination of"),
    "report drop": (
        "harness.report.command",
        [STUDY, STUDY, "--max-accuracy-drop", "0"],
        "--max-accuracy-drop limits",
    ),
    "report uri": ("harness.report.command", [STUDY, "--uri", "x"], "read without a store"),
    "report undecided": ("harness.report.command", [STUDY, STUDY, "--undecided", "fail"], "--undecided says what a"),
    "report gate": ("harness.report.command", [STUDY, "--fail-on", "slower:3%"], "compares two studies"),
    "capacity window": (
        "harness.commands.capacity.command",
        [STUDY, "--demand", "5", "--window-s", "9"],
        "for a trace",
    ),
    "capacity split": (
        "harness.commands.capacity.command",
        [STUDY, "--demand", "5", "--no-simulate", "--split", "random"],
        "--no-simulate leaves out",
    ),
    "capacity uri": ("harness.commands.capacity.command", [STUDY, "--demand", "5", "--uri", "x"], "without a store"),
    "doctor": ("harness.commands.doctor.command", ["--no-test", "--engine", "eager"], "--no-test tests nothing"),
    "ui root": ("harness.commands.ui", ["--root", "x"], "MLFLOW_TRACKING_URI names another store"),
    "train": ("harness.commands.train.command", ["data=digits", "hw=fusion"], "hw=fusion: a training takes"),
    "train dry run": ("harness.commands.train.command", ["data=digits", "dry_run=true"], "dry_run=true: a training"),
    "train resume": ("harness.commands.train.command", ["data=digits", "resume=never"], "train.resume=never"),
}


@pytest.mark.parametrize("case", IDLE)
def test_an_option_that_would_do_nothing_is_refused_in_one_line(case, repository, tmp_path, monkeypatch, capsys):
    module, words, says = IDLE[case]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/x.db")
    words = [str(repository / word) if word == STUDY else word for word in words]
    assert import_module(module).main(words) == 2
    printed = capsys.readouterr()
    assert says in printed.err and printed.err.count("\n") == 1
    assert printed.out == ""


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["scenario.slo_ms=3"], "scenario=fixed reads no such option; add scenario=server"),
        (["data.limit=3"], "data=synthetic reads no such option; add data=digits"),
        (["data=digits", "data.image_column=x"], "data=digits reads no such option; add data=huggingface"),
        (["arch.grouped.groups=2"], "grouped is on in no cell of this sweep"),
    ],
)
def test_an_option_that_no_job_of_a_sweep_reads_is_refused(words, says):
    with pytest.raises(UserError, match=says):
        compose_jobs(words)


def test_a_range_of_batch_sizes_needs_a_dynamic_batch(tmp_path):
    words = ["model=densenet_tiny", "engine=onnxruntime", "engine.device=cpu", f"cache.dir={tmp_path}"]
    ranged = [*words, "profile.max_batch_size=16"]
    with pytest.raises(UserError, match=r"profile.max_batch_size=16: no cell of this sweep has a dynamic batch"):
        plan_sweep(compose_sweep([*ranged, "hw=fusion"]).jobs)
    assert plan_sweep(compose_sweep([*ranged, "hw=fusion,dynamic_batching"]).jobs)
    assert plan_sweep(compose_sweep([*words, "batch=b8", "hw=fusion"]).jobs)


def test_one_that_some_job_reads_is_taken():
    assert len(compose_jobs(["scenario=fixed,server", "scenario.slo_ms=3"])) == 2
    assert len(compose_jobs(["data=digits,synthetic", "data.limit=3"])) == 2
    # a command that is to run elsewhere builds here with one word more
    assert compose_jobs(["protocol.slice_s=1", "engine.build_only=true"])
    assert compose_jobs(["data.seed=3"])[0].config.data.seed == 3
    assert set(LABELLED) < set(READ)

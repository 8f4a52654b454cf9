"""A sweep composes each of its jobs once and plans each once, and what it hands on are plans."""

from __future__ import annotations

import ast
import pickle
from pathlib import Path

import harness
from harness.config import from_omegaconf
from harness.sweep import command_line, plan
from harness.sweep.command_line import compose_sweep, composing
from harness.sweep.fleet import design_runner
from harness.sweep.job import designs_of
from harness.sweep.refusals import plan_sweep
from harness.tracking import Store

GRID = [
    "model=densenet_tiny",
    "batch_size=2",
    "arch=grouped,low_rank",
    "hw=fusion",
    "engine=onnxruntime",
    "engine.device=cpu",
]


def counted(monkeypatch, where, name):
    calls = []
    real = getattr(where, name)
    monkeypatch.setattr(where, name, lambda *args, **named: calls.append(args) or real(*args, **named))
    return calls


def test_each_job_is_composed_once(monkeypatch):
    import hydra

    calls = counted(monkeypatch, hydra, "compose")
    sweep = compose_sweep(GRID)
    assert (len(sweep.jobs), len(calls)) == (2, 2)  # the first one with Hydra's own settings
    calls.clear()
    single = compose_sweep([word for word in GRID if "," not in word])
    assert (len(single.jobs), len(calls)) == (1, 1)
    assert [from_omegaconf(hydra_alone(job)) for job in sweep.jobs] == [job.config for job in sweep.jobs]


def hydra_alone(job):
    """Return what Hydra composes of one job's overrides."""
    import hydra

    with composing(job.overrides):
        return hydra.compose("config", overrides=list(job.overrides))


def test_each_quartet_is_planned_once(monkeypatch, tmp_path):
    calls = counted(monkeypatch, plan, "check_config")  # what every planning begins with
    planned = plan_sweep(compose_sweep([*GRID, f"cache.dir={tmp_path}"]).jobs)
    assert [job.plan.arch for job in planned.jobs] == [("grouped",), ("low_rank",)]
    assert len(calls) == 2


def test_what_travels_to_a_launcher_is_plans_and_no_composed_config(tmp_path):
    planned = plan_sweep(compose_sweep([*GRID, f"cache.dir={tmp_path}"]).jobs)
    assert pickle.loads(pickle.dumps(planned.jobs)) == planned.jobs
    runner = design_runner(designs_of(planned.jobs, 2), "0" * 32, Store("sqlite:///x", "0", "harness", None))
    (design,) = runner.__closure__[0].cell_contents.designs
    assert [job.plan.arch for job in design.jobs] == [("grouped",), ("low_rank",)]


def test_quartets_that_differ_in_their_techniques_alone_are_one_design(tmp_path):
    def designs(*words, **options):
        jobs = plan_sweep(compose_sweep([*GRID, f"cache.dir={tmp_path}", *words]).jobs).jobs
        return [[job.plan.label for job in design.jobs] for design in designs_of(jobs, 1, **options)]

    grouped, low_rank = "grouped x fusion", "low_rank x fusion"
    assert designs() == [[grouped, low_rank]]
    assert designs("batch_size=2,4") == [[grouped, low_rank]] * 2
    assert designs("protocol.side_by_side=false") == [[grouped], [low_rank]]
    assert designs(at_once=2) == [[grouped], [low_rank]]
    assert designs(at_once=9) == [[grouped], [low_rank]]


def test_private_names_of_hydra_are_used_nowhere():
    root = Path(harness.__file__).parent
    found = [
        f"{path.relative_to(root)}:{node.lineno}"
        for path in root.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hydra._")
    ]
    assert found == []
    assert "sys.argv" not in Path(command_line.__file__).read_text()

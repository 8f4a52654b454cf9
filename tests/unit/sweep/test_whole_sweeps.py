"""A sweep is judged as a whole: all refusals at once, jobs left out on request, and a dry run that does nothing."""

from __future__ import annotations

import os
from dataclasses import replace
from types import SimpleNamespace

import pytest
from torch import nn

from harness.config import packages
from harness.measure.progress import Silent
from harness.report.study import open_study
from harness.sweep import devices, refusals, run
from harness.sweep.build import build_quartet, look_up
from harness.sweep.command_line import compose_sweep
from harness.sweep.main import main
from harness.sweep.refusals import plan_sweep
from harness.system.cache import Cache
from harness.system.errors import UserError
from harness.techniques import arch, hw
from harness.tracking.runs import sweeps
from harness.tracking.store import find_store

ON_CPU = ("model=densenet_tiny", "engine=onnxruntime", "engine.device=cpu", "hw=fusion")
BAD_GROUPS = "arch.grouped.groups=3"


@pytest.fixture
def judged(tmp_path):
    """Return a function: judged("batch_size=0,2") -> the planned sweep."""

    def plan(*overrides):
        return plan_sweep(compose_sweep([*ON_CPU, f"cache.dir={tmp_path}/cache", *overrides]).jobs)

    return plan


def refused(judged, *overrides) -> list[str]:
    with pytest.raises(UserError) as error:
        judged(*overrides)
    return str(error.value).splitlines()


def test_all_refusals_of_a_grid_are_told_at_once_each_with_its_jobs(judged):
    lines = refused(judged, "batch_size=0,2", "arch=grouped,low_rank", BAD_GROUPS)
    assert lines[0] == "3 of 4 jobs of this sweep can't be measured:"
    assert lines[1] == "  batch_size=0 (2 jobs): batch_size=0: must be at least 1."
    assert lines[2].startswith("  batch_size=2 arch=grouped: arch.grouped.groups=3 does not divide")
    assert lines[-1] == "on_unsupported=skip leaves them out and measures the other 1 job."


def test_all_values_of_a_grid_that_are_none_are_told_at_once():
    with pytest.raises(UserError) as error:
        compose_sweep(["model=densenet_tiny", "hw=fussion,fusion,fp61", "batch_size=2,x", "protocol=quick"])
    lines = str(error.value).splitlines()
    assert len(lines) == 3
    assert all(word in line for line, word in zip(lines, ("hw/fussion", "hw/fp61", "batch_size=x"), strict=True))
    with pytest.raises(UserError, match=r"nonet can't be imported.*\n.*model 'nomodel' is not known"):
        compose_sweep(["model=nonet:net,densenet_tiny,nomodel"])


def test_jobs_are_named_as_they_were_typed(judged, tmp_path, monkeypatch):
    (tmp_path / "net_that_breaks.py").write_text("def net():\n    raise KeyError('weights')\n")
    monkeypatch.syspath_prepend(tmp_path)
    lines = refused(judged, "model=net_that_breaks:net,densenet_tiny")
    assert lines[1].startswith("  model=net_that_breaks:net: model=net_that_breaks:net: net_that_breaks:net() failed")


def test_an_engine_refuses_all_that_it_can_not_do_at_once(judged):
    lines = refused(judged, "engine=eager,onnxruntime", "reference=engine", "arch=grouped,low_rank", "hw=fusion")
    assert lines[0] == "2 of 4 jobs of this sweep can't be measured:"
    assert lines[1].startswith("  engine=eager (2 jobs): ")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("arch=grouped,low_rank", "batch_size=0"), "batch_size=0: must be at least 1."),
        (("arch=grouped,low_rank", "engine.device=cuda"), "engine.device=cuda: torch sees no CUDA GPU"),
        (("arch=grouped,low_rank", "cache.dir=/proc/no"), "cache.dir=/proc/no: can't write there"),
        (("arch=grouped,low_rank", "on_unsupported=maybe"), "on_unsupported=maybe: choose one of fail, skip"),
        (("arch=none", BAD_GROUPS.replace("groups", "enabled").replace("3", "true"), "batch_size=0"), "batch_size=0"),
    ],
)
def test_what_concerns_all_jobs_alike_is_one_line(judged, monkeypatch, overrides, said):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    lines = refused(judged, *overrides)
    assert len(lines) == 1
    assert lines[0].startswith(said)


def test_what_concerns_the_sweep_stands_before_what_concerns_jobs(judged):
    lines = refused(judged, "cache.dir=/proc/no", "batch_size=0,2", "on_unsupported=skip")
    assert lines[0].startswith("cache.dir=/proc/no")
    assert lines[1:] == [
        "1 of 2 jobs of this sweep can't be measured:",
        "  batch_size=0: batch_size=0: must be at least 1.",
    ]


def test_jobs_that_can_not_be_measured_are_left_out_on_request_and_named(judged):
    planned = judged("batch_size=0,2", "arch=grouped,low_rank", BAD_GROUPS, "on_unsupported=skip")
    assert [job.plan.label for job in planned.jobs] == ["low_rank x fusion"]
    assert [(entry.jobs, entry.names) for entry in planned.left_out] == [
        (2, "batch_size=0 (2 jobs)"),
        (1, "batch_size=2 arch=grouped"),
    ]
    assert judged("arch=grouped,low_rank", "on_unsupported=skip").left_out == ()


def test_a_sweep_of_which_nothing_is_left_is_refused(judged):
    lines = refused(judged, "batch_size=0,-1", "on_unsupported=skip")
    assert lines[0] == "2 of 2 jobs of this sweep can't be measured:"
    assert not any("on_unsupported" in line for line in lines)


def test_auto_takes_the_engine_that_can_do_the_most_where_jobs_may_be_left_out(judged, monkeypatch):
    able = {"first": ("low_rank",), "second": ("grouped", "low_rank"), "third": ("pruned", "grouped")}

    def plan(config, engine, device):
        stack = arch.enabled(config.arch)
        if stack[0] in able[engine]:
            return SimpleNamespace(engine=engine, stack=stack, cells=(), config=config)
        raise UserError(f"engine {engine} can't do {stack[0]}")

    monkeypatch.setattr(refusals, "PREFERENCE", {"cpu": tuple(able)})
    here = SimpleNamespace(availability=lambda device: SimpleNamespace(build=None, run=None))
    monkeypatch.setattr(devices, "get", lambda name: here)
    monkeypatch.setattr(refusals, "plan_quartet", plan)
    grid = ("engine=auto", "arch=grouped,low_rank,pruned")
    lines = refused(judged, *grid)
    assert lines[0] == "no engine can do every cell of this sweep:"
    assert lines[1:4] == [
        "  not first: can't do grouped [arch=grouped]",
        "  not first: can't do pruned [arch=pruned]",
        "  not second: can't do pruned [arch=pruned]",
    ]
    assert lines[-1] == "on_unsupported=skip leaves out what second can't do and measures 2 jobs."
    planned = judged(*grid, "on_unsupported=skip")
    assert planned.engines == {"auto": "second"}
    assert [job.plan.stack for job in planned.jobs] == [("grouped",), ("low_rank",)]
    assert [entry.text for entry in planned.left_out] == ["arch=pruned: engine second can't do pruned"]
    assert "2 of 3 jobs" in planned.reason


class Broken:
    """A technique whose author made a mistake."""

    def __init__(self, real, part, found):
        self._real, self._part, self._found = real, part, found

    def __getattr__(self, name):
        if name != self._part:
            return getattr(self._real, name)
        if isinstance(self._found, Exception):
            return lambda *_: self._raise()
        return lambda *_: self._found

    def _raise(self):
        raise self._found


@pytest.mark.parametrize(
    ("room", "group", "name", "part", "found", "said"),
    [
        (arch, packages.ARCH, "grouped", "check", KeyError("x"), "its check fails: KeyError: 'x'"),
        (arch, packages.ARCH, "grouped", "apply", ValueError("y"), "its apply fails: ValueError: y"),
        (arch, packages.ARCH, "grouped", "apply", None, "its apply returns NoneType, not a torch.nn.Module"),
        (hw, packages.HW, "fusion", "check", TypeError("z"), "its check fails: TypeError: z"),
        (hw, packages.HW, "fusion", "apply", TypeError("z"), "its apply fails: TypeError: z"),
        (hw, packages.HW, "fusion", "apply", nn.ReLU(), "its apply returns ReLU, not"),
    ],
)
def test_a_mistake_in_another_packages_technique_is_one_line_with_its_name(
    monkeypatch, tmp_path, room, group, name, part, found, said
):
    packages.added_techniques(group)  # kept from now on
    jobs = compose_sweep([*ON_CPU, f"cache.dir={tmp_path}", "arch=[grouped,low_rank]"]).jobs
    real, ours = room.stack.technique, dict(packages.ours(group))
    broken = Broken(real(name), part, found)
    monkeypatch.setattr(room.stack, "technique", lambda asked: broken if asked == name else real(asked))
    others = {one: value for one, value in ours.items() if one != name}
    monkeypatch.setattr(packages, "ours", lambda asked: others if asked == group else ours)
    with pytest.raises(UserError, match=r"^[^\n]*$") as refusal:
        plan_sweep(jobs)
    assert str(refusal.value).startswith(f"technique {name} of a package: {said}")


def test_a_mistake_of_ours_stays_a_traceback(judged, monkeypatch):
    real = arch.stack.technique
    broken = Broken(real("grouped"), "check", KeyError("x"))
    monkeypatch.setattr(arch.stack, "technique", lambda asked: broken if asked == "grouped" else real(asked))
    with pytest.raises(KeyError):
        judged("arch=grouped")


def test_what_was_left_out_is_said_and_stands_in_the_sweeps_row(tracking, tmp_path, monkeypatch, capsys):
    def ends(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "build_ahead", ends)
    assert main([*ON_CPU, "arch=grouped,low_rank", BAD_GROUPS, "on_unsupported=skip"]) == 130
    printed = capsys.readouterr().out
    assert "1 of 2 jobs is left out (on_unsupported=skip):\n  arch=grouped: arch.grouped.groups=3" in printed
    (sweep,) = sweeps(find_store(tracking))
    assert sweep.data.tags["left_out"].startswith("arch=grouped: arch.grouped.groups=3 does not divide")
    assert sweep.data.params["jobs"] == "1"
    study = open_study(sweep.info.run_id, f"{tmp_path}/mlruns")
    assert study.left_out == sweep.data.tags["left_out"]


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    asked = ("arch=early_exit", "batch_size=2,4", "protocol.min_blocks=12", "protocol.slice_s=0.5")
    assert main([*ON_CPU, *asked, "protocol.budget_s=90", "dry_run=true"]) == 0
    printed = capsys.readouterr().out
    assert "2 quartets, 8 distinct cells to bring up:" in printed
    assert "early_exit x fusion, densenet_tiny b4 on onnxruntime (cpu): baseline, arch, hw, combined" in printed
    # an early exit has two stages; what runs uncompiled is the same for all batch sizes
    assert "in the cache" in printed and "0 in the cache" in printed
    # 12 blocks x 4 cells x 0.5 s, and 90 s, for each of two designs
    assert "Estimate, of timing alone: 0.8 min to 3.0 min" in printed
    assert os.listdir(tmp_path) == []


def test_what_is_in_the_cache_is_not_to_be_built(planned, cache, tmp_path):
    plan = planned("arch=early_exit", "hw=fusion")
    plan = replace(plan, cells=plan.cells[:2])
    empty = Cache(tmp_path / "empty", read_only=True)
    missing = [found for cell in plan.cells for found in look_up(plan, cell, empty)]
    assert len(missing) == len({found.key for found in missing}) == 3
    assert all(found.seconds is None for found in missing)
    build_quartet(plan, cache, Silent())
    there = [found for cell in plan.cells for found in look_up(plan, cell, Cache(cache.root, read_only=True))]
    assert [found.key for found in there] == [found.key for found in missing]
    assert all(found.seconds is not None for found in there)
    assert not (tmp_path / "empty").exists()

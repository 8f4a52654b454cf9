"""Which device measures what: equal shares, neighbours together, and refusals before any work."""

from __future__ import annotations

import pytest

from harness.config import EngineConfig
from harness.sweep.command_line import compose_jobs
from harness.sweep.devices import devices_of
from harness.sweep.fleet import Launcher
from harness.sweep.job import PlannedJob
from harness.sweep.spread import shares
from harness.system.errors import UserError


@pytest.fixture
def jobs(planned):
    """Four quartets at batch size 2, two at 4."""
    grids = [("batch_size=2", arch, hw) for arch in ("grouped", "low_rank") for hw in ("fusion", "identity")]
    grids += [("batch_size=4", "grouped", hw) for hw in ("fusion", "identity")]
    return [PlannedJob(planned(batch, f"arch={arch}", f"hw={hw}"), "") for batch, arch, hw in grids]


def sizes(found):
    return [[(len(design.jobs), design.jobs[0].plan.config.batch_size) for design in share] for share in found]


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        (1, [[(4, 2), (2, 4)]]),
        (2, [[(3, 2)], [(1, 2), (2, 4)]]),
        (3, [[(2, 2)], [(2, 2)], [(2, 4)]]),
        (6, [[(1, 2)]] * 4 + [[(1, 4)]] * 2),
        (7, [[(1, 2)]] * 3 + [[]] + [[(1, 2)]] + [[(1, 4)]] * 2),
    ],
)
def test_shares_are_equal_and_keep_neighbours_together(jobs, places, expected):
    found = shares(jobs, 6, places)
    assert sizes(found) == expected
    assert [job for share in found for design in share for job in design.jobs] == jobs
    assert {design.family for share in found for design in share} == {6}


@pytest.mark.parametrize(
    ("devices", "expected"),
    [("one", ()), ("all", ("a", "b", "c")), ([0, 2], ("a", "c")), ([1], ("b",)), (2, ("c",))],
)
def test_devices_are_chosen_by_their_numbers(monkeypatch, devices, expected):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "a,b,c")
    assert devices_of(EngineConfig(devices=devices), "cuda") == expected


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "a,b")
    with pytest.raises(UserError, match=r"engine\.devices=0,3: there is no GPU 3; 2 GPUs can be seen here"):
        devices_of(EngineConfig(devices=[0, 3]), "cuda")
    with pytest.raises(UserError, match="there is no GPU here to choose from"):
        devices_of(EngineConfig(devices=[0]), "cpu")
    assert devices_of(EngineConfig(devices="all"), "cpu") == ()


def test_another_launcher_and_devices_contradict_each_other():
    with pytest.raises(UserError, match="both say where quartets run"):
        Launcher("joblib").spread_over(2)


@pytest.mark.parametrize(("given", "devices"), [("0,1", [0, 1]), ("[0,1]", [0, 1]), ("all", "all"), ("1", 1)])
def test_several_devices_are_no_grid(given, devices):
    (job,) = compose_jobs(["arch=grouped", f"engine.devices={given}"])
    assert job.config.engine.devices == devices
    assert len(compose_jobs(["arch=grouped,low_rank", f"engine.devices={given}"])) == 2


@pytest.mark.parametrize("given", ["two", "0,0", "-1", "[]", "1.5"])
def test_what_names_no_device_is_refused(planned, given):
    with pytest.raises(UserError, match="choose one, all, or numbers of GPUs, each once, as 0,1"):
        planned(f"engine.devices={given}")

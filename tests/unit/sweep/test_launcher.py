"""Which launcher is meant, and what is refused before any work."""

from __future__ import annotations

import pytest

from harness.sweep import fleet
from harness.sweep.fleet import Launcher, check_reach, choose_launcher
from harness.system.errors import UserError


def test_without_a_word_the_jobs_run_here():
    assert choose_launcher(["arch=grouped", "hw=fusion"], "cpu") == Launcher()
    assert choose_launcher([], "cpu").here


@pytest.mark.parametrize("name", ["joblib", "submitit_local", "submitit_slurm", "ray"])
def test_each_launcher_composes_and_gets_an_absolute_folder(name):
    chosen = choose_launcher([f"hydra/launcher={name}", "arch=grouped,low_rank"], "cpu")
    assert (chosen.name, chosen.here) == (name, False)
    (folder,) = [option for option in chosen.options if option.startswith("hydra.sweep.dir=")]
    assert folder.removeprefix("hydra.sweep.dir=").startswith("/")


def test_on_gpus_a_quartet_asks_a_scheduler_for_one():
    assert "hydra.launcher.gpus_per_node=1" in choose_launcher(["hydra/launcher=submitit_slurm"], "cuda").options
    assert "hydra.launcher.ray.remote.num_gpus=1" in choose_launcher(["hydra/launcher=ray"], "cuda").options
    assert "hydra.launcher.ray.remote.num_gpus=0" in choose_launcher(["hydra/launcher=ray"], "cpu").options


def test_what_the_user_asked_a_scheduler_for_stays():
    options = choose_launcher(["hydra/launcher=submitit_slurm", "hydra.launcher.gres=gpu:h100:1"], "cuda").options
    assert not any("gpus_per_node" in option for option in options)


def test_joblib_has_a_process_for_each_gpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    assert choose_launcher(["hydra/launcher=joblib"], "cuda").at_once == 4
    assert choose_launcher(["hydra/launcher=joblib", "hydra.launcher.n_jobs=3"], "cuda").at_once == 3


def test_a_launcher_whose_package_is_missing_names_the_extra(monkeypatch):
    monkeypatch.setattr(fleet, "_installed", lambda module: False)
    with pytest.raises(UserError, match=r"interaction-harness\[fleet\]"):
        choose_launcher(["hydra/launcher=ray"], "cpu")


def test_an_unknown_launcher_and_a_sweep_of_launchers_are_refused():
    with pytest.raises(UserError, match=r"choose one of basic, joblib, ray.*did you mean ray"):
        choose_launcher(["hydra/launcher=rays"], "cpu")
    with pytest.raises(UserError, match="a sweep has one launcher"):
        choose_launcher(["hydra/launcher=ray,joblib"], "cpu")


def test_other_hosts_need_a_server(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    here = choose_launcher(["hydra/launcher=ray"], "cpu")
    cluster = choose_launcher(["hydra/launcher=ray", "hydra.launcher.ray.init.address=auto"], "cpu")
    check_reach(here, "sqlite:////a/mlflow.db")
    check_reach(cluster, "https://server")
    with pytest.raises(UserError, match="other hosts can't write"):
        check_reach(cluster, "sqlite:////a/mlflow.db")

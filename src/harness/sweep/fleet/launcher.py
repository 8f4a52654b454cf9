"""Which launcher Hydra takes, and whether its jobs run in this process, on this machine, or on other hosts."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.sweep.command_line import compose_first, composing
from harness.system.errors import UserError

CHOICE = "hydra/launcher"
_PLUGINS = {  # hydra/launcher=NAME -> the module that it needs
    "joblib": "hydra_plugins.hydra_joblib_launcher",
    "submitit_local": "hydra_plugins.hydra_submitit_launcher",
    "submitit_slurm": "hydra_plugins.hydra_submitit_launcher",
    "ray": "hydra_plugins.hydra_ray_launcher",
}


@dataclass(frozen=True)
class Launcher:
    """Who runs the jobs of a sweep."""

    name: str = "basic"
    options: tuple[str, ...] = ()  # overrides for Hydra: what the user left open
    one_machine: bool = True  # all jobs run here: what is built ahead here is theirs
    at_once: int = 1  # jobs that run at the same time, where that is known

    @property
    def here(self) -> bool:
        """Whether all jobs run in this process, one after the other."""
        return self.name == "basic"


def choose_launcher(overrides: Sequence[str], device: str, hydra: Any = None) -> Launcher:
    """Return the launcher that these command-line overrides ask for, to run on `device` ("cpu" or "cuda").

    `hydra` is Hydra's own node of the composed sweep, where somebody has it already.

    Raises:
        UserError: it is unknown, its package is not installed, or it is swept over.

    """
    asked = [override for override in overrides if override.startswith(f"{CHOICE}=")]
    if any("," in override for override in asked):
        raise UserError(f"{asked[0]}: a sweep has one launcher: run one sweep for each.")
    hydra = compose_first(overrides).hydra if hydra is None else hydra
    name = str(hydra.runtime.choices[CHOICE])
    if name == "basic":
        return Launcher()
    if name not in _PLUGINS:
        raise UserError(f"{CHOICE}={name}: choose one of basic, {', '.join(_PLUGINS)}.")
    if not _installed(_PLUGINS[name]):
        raise UserError(f"{CHOICE}={name}: not installed here; pip install 'interaction-harness[fleet]'.")
    # absolute: a process of another host starts in another folder
    options = [f"hydra.sweep.dir={Path(str(hydra.sweep.dir)).absolute()}"]
    gpus = int(device == "cuda")
    settings = hydra.launcher
    if name == "joblib":
        jobs = settings.n_jobs or max(2, gpus and len(_visible()))
        return Launcher(name, (*options, f"hydra.launcher.n_jobs={jobs}"), at_once=int(jobs))
    if name == "submitit_local":
        return Launcher(name, tuple(options))
    if name == "submitit_slurm":
        if gpus and not any(settings[key] for key in ("gpus_per_node", "gpus_per_task", "gres")):
            options.append("hydra.launcher.gpus_per_node=1")
        return Launcher(name, tuple(options), one_machine=False)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else Ray sends notes of every run to its makers
    # our jobs ask for no GPU on a CPU, and must still see CUDA_VISIBLE_DEVICES as it was
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if settings.ray.remote.num_gpus is None:
        options.append(f"hydra.launcher.ray.remote.num_gpus={gpus}")
    cluster = settings.ray.init.address or os.environ.get("RAY_ADDRESS")
    return Launcher(name, tuple(options), one_machine=not cluster or cluster == "local")


class _NoCallbacks:
    """What Hydra's job runner tells of a job; there are none here to be told. Travels with each job, so it is plain."""

    def on_job_start(self, config: Any, *, task_function: Any) -> None:
        """Do nothing."""

    def on_job_end(self, config: Any, job_return: Any) -> None:
        """Do nothing."""


def launch(launcher: Launcher, overrides: Sequence[str], task: Callable[[Any], None], jobs: int) -> None:
    """Have a launcher call `task` once for each of so many jobs, in processes of its own; return when all are done.

    Whatever a job raises is raised here. Hydra's launchers compose a config for each job: it is the first job's, and
    what it says of the measurement counts for nothing, for `task` holds the plans.
    """
    from hydra import compose
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.plugins import Plugins
    from hydra.types import HydraContext

    with composing(overrides):
        chosen = [word for word in overrides if word.startswith(("hydra/", "hydra."))]
        config = compose("config", overrides=[*chosen, *launcher.options], return_hydra_config=True)
        loader = GlobalHydra.instance().config_loader()
        context = HydraContext(config_loader=loader, callbacks=_NoCallbacks())  # type: ignore[arg-type]
        plugin = Plugins.instance().instantiate_launcher(hydra_context=context, task_function=task, config=config)
    for one in plugin.launch([[] for _ in range(jobs)], initial_job_idx=0):
        _ = one.return_value


def check_reach(launcher: Launcher, store_uri: str) -> None:
    """Raise UserError where jobs of other hosts could not write to the tracking store."""
    if not launcher.one_machine and store_uri.startswith("sqlite:"):
        raise UserError(
            f"{CHOICE}={launcher.name}: other hosts can't write to this machine's sqlite store; start an MLflow server "
            "and set MLFLOW_TRACKING_URI=https://SERVER (docs/fleet.md)."
        )


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # not even the package around it
        return False


def _visible() -> Sequence[Any]:
    from harness.measure.seat import visible_devices

    return visible_devices("cuda")

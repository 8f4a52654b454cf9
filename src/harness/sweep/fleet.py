"""Designs in other processes: which of Hydra's launchers runs them, what it carries, how their ends are shown here.

A launcher carries plain data only; store, cache and device are opened again on arrival.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.sweep.command_line import compose_first, composing
from harness.system.errors import UserError
from harness.tracking import Store
from harness.tracking.runs import PARENT_TAG, search
from harness.tracking.store import check_there, quietly

if TYPE_CHECKING:
    from harness.sweep.job import PlannedDesign
    from harness.sweep.terminal import TerminalProgress


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
    devices: int = 1  # that they run on, where that is known

    @property
    def here(self) -> bool:
        """Whether all jobs run in this process, one after the other."""
        return self.name == "basic"

    def spread_over(self, devices: int) -> Launcher:
        """Return who runs the jobs on so many devices of this machine, `engine.devices`."""
        if not self.here:
            raise UserError(f"engine.devices and {CHOICE}={self.name}: both say where quartets run; drop one of them.")
        return replace(self, at_once=devices, devices=devices)


def choose_launcher(overrides: Sequence[str], device: str, hydra: Any = None) -> Launcher:
    """Return the launcher that these command-line overrides ask for, to run on `device` ("cpu" or "cuda").

    `hydra` is Hydra's node of the composed sweep, if it is composed already.

    Raises:
        UserError: it is unknown, its package is not installed, or it is swept over.

    """
    requested = [override for override in overrides if override.startswith(f"{CHOICE}=")]
    if any("," in override for override in requested):
        raise UserError(f"{requested[0]}: a sweep has one launcher: run one sweep for each.")
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
        devices = len(_visible()) if gpus else 1
        jobs = settings.n_jobs or max(2, devices)
        return Launcher(
            name,
            (*options, f"hydra.launcher.n_jobs={jobs}"),
            at_once=int(jobs),
            devices=devices if jobs < 0 else min(devices, int(jobs)),
        )
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
    """Callbacks for Hydra's job runner that do nothing. They travel with each job, so they are plain."""

    def on_job_start(self, config: Any, *, task_function: Any) -> None:
        """Do nothing."""

    def on_job_end(self, config: Any, job_return: Any) -> None:
        """Do nothing."""


def launch(launcher: Launcher, overrides: Sequence[str], task: Callable[[Any], None], jobs: int) -> None:
    """Have a launcher call `task` once for each job, in its own processes; return when all are done.

    Whatever a job raises is raised here. Hydra's launchers compose a config for each job: always the first job's, and
    it is ignored, because `task` holds the plans.
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
    for result in plugin.launch([[] for _ in range(jobs)], initial_job_idx=0):
        _ = result.return_value  # raises what the job raised


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
    from harness.measure.lock import visible_devices

    return visible_devices("cuda")


@dataclass(frozen=True)
class Errand:
    """What a launcher carries to its processes: the designs to run, and where their rows go."""

    designs: tuple[PlannedDesign, ...]
    sweep_id: str
    store: Store
    folder: str  # that relative paths begin at


def design_runner(designs: Sequence[PlannedDesign], sweep_id: str, store: Store) -> Callable[[Any], None]:
    """Return the function that a launcher pickles; called for its n-th job, it runs the n-th design."""
    errand = Errand(tuple(designs), sweep_id, store, os.getcwd())

    def run(composed: Any) -> None:  # a closure is pickled whole, however this module is found on arrival
        from hydra.core.hydra_config import HydraConfig

        run_errand(errand, int(HydraConfig.get().job.num))

    return run


def run_errand(errand: Errand, number: int) -> None:
    """Run one design here, on a device that no other process uses, unless its sweep has ended."""
    from harness.measure.lock import seat
    from harness.measure.progress import Silent
    from harness.sweep.job import run_design
    from harness.system.command import quiet
    from harness.tracking.outbox import deliver, outbox_of

    quiet()
    multiprocessing.set_start_method("spawn", force=True)  # joblib has a start method that its children lack
    with suppress(OSError):  # a host without that folder: relative paths then begin at the current one
        os.chdir(errand.folder)
    if _ended(errand.store, errand.sweep_id):
        return  # a cluster's queue outlives the sweep's process, and nobody waits for these rows
    design = errand.designs[number]
    plan = design.jobs[0].plan
    outbox = outbox_of(errand.store, plan.config.tracking.root)
    with _terminated_as_interrupted(), seat(plan.device):
        run_design(design, errand.sweep_id, errand.store, Silent(), lambda *_: None)
    deliver(outbox)


def _ended(store: Store, sweep_id: str) -> bool:
    """Return whether a sweep has ended; False if the store is unreachable: the row can wait."""
    try:
        check_there(store.uri)
        with quietly():
            return bool(store.client().get_run(sweep_id).info.status != "RUNNING")
    except Exception:  # whatever a store raises
        return False


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM (a scheduler that cancels) shut the quartet down cleanly: KILLED, no process left."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


_EVERY_S = 2.0
_SHARE = 0.05  # of the time, at most, is spent on queries to the store
_SLACK_MS = 120_000  # hosts' clocks differ: a quartet may have ended before one that is shown already


@contextmanager
def watching(
    store: Store,
    sweep_id: str,
    shown: Collection[str],
    progress: TerminalProgress,
    after: Callable[[], None] = lambda: None,
) -> Iterator[None]:
    """Show every quartet of a sweep that ends while this is open in `progress`, then call `after`.

    The run ids in `shown` are left out.
    """
    seen = dict.fromkeys(shown, 0)
    ended = threading.Event()

    def watch() -> None:
        pause_s = _EVERY_S
        while not ended.wait(pause_s):
            began = time.monotonic()
            with (
                suppress(Exception),
                quietly(),
            ):  # the store is unreachable for a moment: the next time
                _show_ended(store, sweep_id, seen, progress)
            after()
            pause_s = max(_EVERY_S, (time.monotonic() - began) / _SHARE)

    thread = threading.Thread(target=watch, name="harness-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        with suppress(Exception), quietly():
            _show_ended(store, sweep_id, seen, progress)
        after()


def _show_ended(store: Store, sweep_id: str, seen: dict[str, int], progress: TerminalProgress) -> None:
    since_ms = max(seen.values(), default=0) - _SLACK_MS  # only the newest: a large sweep's answer takes long
    condition = f"tags.`{PARENT_TAG}` = '{sweep_id}' AND attributes.status != 'RUNNING'"
    condition += f" AND attributes.end_time > {max(since_ms, 0)}"
    for run in search(store.client(), [store.experiment_id], condition):
        info = run.info
        if info.run_id in seen or info.end_time is None:
            continue
        seen[info.run_id] = info.end_time
        progress.begin(str(info.run_name))
        reason = None if info.status == "FINISHED" else run.data.tags.get("error", info.status)
        progress.end(reason, seconds=(info.end_time - info.start_time) / 1e3)

"""What many rooms' tests share: composed configs, and the parts of a tiny network, made once a session."""

from __future__ import annotations

import copy
import functools
import gc
import os
import shutil
import signal
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pytest

pytest_plugins = ["longest", "spread", "warm_starts"]

# read when torch is imported: the tests' processes are as many as the cores, so one that waits must not spin
os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}

# what a child process compiles of our sources, the next one need not compile again
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

LEAN = ("protocol.why=false", "tracking.report=false")  # what comes after measuring takes longer than the tiny cells do
TINY = ("model=densenet_tiny", "batch_size=2")
CACHED_S = 7 * 24 * 3600.0
LOCKS = Path(os.environ.get("HARNESS_LOCK_DIR") or tempfile.gettempdir())  # where those of the user's sweeps lie


def pytest_configure() -> None:
    """Let Ctrl-C reach the programs under test: a shell that starts tests in the background ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)  # before -m chooses by marker
def pytest_collection_modifyitems(items) -> None:
    """Mark what takes minutes and all of tests/integration as slow, and checks of pages or studies as repository."""
    for item in items:
        if item.get_closest_marker("minutes") or "integration" in item.path.parts:
            item.add_marker("slow")
        if item.path.parent.name in ("unit", "docs"):
            item.add_marker("repository")


def pytest_collection_finish() -> None:
    """Let no garbage collection, of which a timed slice has one each, walk through all that was imported."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)  # an export makes millions of objects that stay until it is done


@pytest.fixture(scope="session", autouse=True)
def _operators_compiled_once():
    """Let all exports of this process share what they have in common."""
    from operators import compile_once

    compile_once()


@pytest.fixture(scope="session", autouse=True)
def _nothing_of_the_users(tmp_path_factory):
    """Let no variable of the person who runs the tests lead into their own store or cache, and no lock be theirs.

    Temporary files, and with them the device's lock, are this process's own: a sweep of somebody else, or of the tests
    beside these, must not hold them up.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "HARNESS_CACHE", "HARNESS_LOCK_DIR"):
            patch.delenv(name, raising=False)
        patch.setenv("TMPDIR", str(tmp_path_factory.mktemp("temporary")))
        patch.setattr(tempfile, "tempdir", None)  # looked up anew
        yield


@pytest.fixture(scope="session")
def locks_of_everybody() -> Path:
    """Return the folder of the locks by which all sweeps of this user wait for each other."""
    return LOCKS


@pytest.fixture(scope="session")
def together(tmp_path_factory) -> Path:
    """Return a folder of this run that all of its processes have in common."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def cache(pytestconfig):
    """One artifact cache for all runs: its keys are exact, so what an earlier run made is what this one would make.

    It lies in `.pytest_cache`. Nothing in it gets older than a week, or each edit of an engine would add to it.
    """
    from harness.system.cache import Cache

    root = pytestconfig.cache.mkdir("harness")
    for entry in root.glob("*/*/*/"):
        with suppress(FileNotFoundError):  # the process beside this one removes them too
            if time.time() - entry.stat().st_mtime > CACHED_S:
                shutil.rmtree(entry)
    return Cache(root)


@pytest.fixture(scope="session")
def configured():
    """Return a function: configured("hw=fp16") -> the typed config of that one job (densenet_tiny, batch of 2)."""
    from harness.sweep.command_line import compose_jobs

    @functools.cache
    def once(folder, cache_dir, overrides):  # what else decides, from outside
        (job,) = compose_jobs([*TINY, *overrides])
        return job.config

    def make(*overrides):
        return copy.deepcopy(once(os.getcwd(), os.environ.get("HARNESS_CACHE"), overrides))

    return make


@pytest.fixture(scope="session")
def planned(configured):
    """Return a function: planned("arch=grouped", "hw=fp16") -> its plan on the CPU, by default on ONNX Runtime."""
    from harness.sweep.plan import plan_quartet

    def make(*overrides, engine="onnxruntime"):
        return plan_quartet(configured(*overrides), engine, "cpu")

    return make


@pytest.fixture(scope="session")
def prepared(planned, cache):
    """Return a function: prepared("hw=fp16") -> (plan, its cells with their engines really built, by role)."""
    from harness.measure.progress import Silent
    from harness.sweep.build import build_quartet

    def make(*overrides, engine="onnxruntime"):
        plan = planned(*overrides, engine=engine)
        return plan, build_quartet(plan, cache, Silent())

    return make


@pytest.fixture(scope="session")
def built(planned, cache):
    """Return a function: built("scenario=offline") -> (plan, all that its scenario wants built)."""
    from harness.measure.progress import Silent
    from harness.sweep.build import build_quartet
    from harness.sweep.scenarios import scenario_of

    def make(*overrides):
        plan = planned(*overrides)
        builds = scenario_of(plan.config).builds(plan)
        return plan, [build_quartet(requested, cache, Silent(), number) for requested, number in builds]

    return make


@pytest.fixture(scope="session")
def images():
    """Return a function: images(3) -> [3, 3, 64, 64] float32, other ones than the harness's own."""
    import numpy as np

    def make(count, seed=99):
        return np.random.default_rng(seed).standard_normal((count, 3, 64, 64)).astype(np.float32)

    return make


@pytest.fixture(scope="session")
def repository() -> Path:
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def plain_environment():
    """Return the environment for a `python -m harness` of the tests: nobody's store, nobody's cache."""
    taken_out = ("MLFLOW_TRACKING_URI", "HARNESS_CACHE", "HARNESS_LOCK_DIR")
    return {name: value for name, value in os.environ.items() if name not in taken_out}


@pytest.fixture
def children():
    """Return a function: children() -> the processes below this one, without multiprocessing's own bookkeeper.

    Nor the one that forks them (`warm_starts.py`).
    """
    import psutil

    from warm_starts import NURSERY

    def alive(process):
        try:
            words = " ".join(process.cmdline())
            helper = "resource_tracker" in words or process.name() == NURSERY
            return process.status() != psutil.STATUS_ZOMBIE and not helper
        except (psutil.NoSuchProcess, psutil.ZombieProcess):  # gone since it was listed
            return False

    def list_them():
        return [one for one in psutil.Process().children(recursive=True) if alive(one)]

    return list_them


@pytest.fixture(scope="session")
def grouped_fusion(prepared):
    """Return (plan, cells) of the quartet that most tests of measuring share: two cells on eager, two fused."""
    return prepared("arch=grouped", "hw=fusion")


@pytest.fixture(scope="session")
def empty_database(together) -> Path:
    """An empty database of this MLflow, without experiments of ours: its migrations take seconds, a copy none."""
    from filelock import FileLock
    from mlflow import MlflowClient

    from harness.config import TrackingConfig
    from harness.tracking.store import DATABASE, open_store

    made = together / "empty.db"
    with FileLock(together / "empty.lock"):
        if not made.exists():
            with tempfile.TemporaryDirectory(dir=together) as folder, pytest.MonkeyPatch.context() as patch:
                patch.delenv("MLFLOW_TRACKING_URI", raising=False)  # that of a module's server
                store = open_store(TrackingConfig(root=str(Path(folder, "mlruns"))))
                MlflowClient(store.uri).rename_experiment(store.experiment_id, "template")
                Path(folder, "mlruns", DATABASE).rename(made)
    return made


@pytest.fixture(scope="session")
def new_store(empty_database, tmp_path_factory):
    """Return a function: new_store("killed") -> the folder of an embedded store whose database is there already."""
    from harness.tracking.store import DATABASE

    def make(name="store"):
        root = tmp_path_factory.mktemp(name) / "mlruns"
        root.mkdir()
        shutil.copyfile(empty_database, root / DATABASE)
        return root

    return make


@pytest.fixture(scope="session")
def store_root(new_store) -> Path:
    """One embedded store for the sweeps of the session."""
    return new_store()


@pytest.fixture(scope="session")
def command(plain_environment, cache, store_root, tmp_path_factory):
    """Return a function: command("-m", "hw=fusion") -> (arguments, environment) of a real `python -m harness`.

    A tiny network and a small budget, the session's store; its cache too, unless another one is named.
    """
    temporary = tmp_path_factory.mktemp("temporary")

    def make(*overrides, cache_dir=None):
        named = {one.partition("=")[0] for one in overrides}
        arguments = [
            sys.executable, "-m", "harness", "-m", *TINY, "protocol=quick", "protocol.budget_s=3",
            "protocol.min_blocks=5", "protocol.max_blocks=8", "protocol.slice_s=0.02", "protocol.warmup_max_s=0.5",
            f"tracking.root={store_root}", *[one for one in LEAN if one.partition("=")[0] not in named], *overrides,
        ]  # fmt: skip
        # the device lock lies among the temporary files: a sweep of somebody else must not hold up the tests
        own = {"HARNESS_CACHE": str(cache_dir or cache.root), "TMPDIR": str(temporary)}
        return arguments, {**plain_environment, **own}

    return make


@pytest.fixture(scope="session")
def swept(command, tmp_path_factory):
    """Return a function: swept("hw=fusion") -> status and output of that sweep, called here, in a folder of its own.

    It composes, builds, measures in processes of its own and logs as ever; only torch and MLflow are imported already.
    """
    from called import called
    from harness.sweep.main import main

    def run(*overrides, cache_dir=None):
        arguments, environment = command(*overrides, cache_dir=cache_dir)
        folder = tmp_path_factory.mktemp("cwd")
        done = called(main, arguments[arguments.index("harness") + 1 :], folder, environment)
        assert list(folder.iterdir()) == []  # nothing is left where it was started
        return done

    return run


@pytest.fixture(scope="session")
def swept_apart(command, tmp_path_factory):
    """Return a function as `swept` is, whose sweeps are real processes: what a person starts, to its very end."""
    from warm_starts import run as run_warm

    def run(*overrides, cache_dir=None):
        arguments, environment = command(*overrides, cache_dir=cache_dir)
        folder = tmp_path_factory.mktemp("cwd")
        done = run_warm(arguments, cwd=folder, env=environment, timeout=580)
        assert list(folder.iterdir()) == []  # nothing is left where it was started
        return done

    return run


@pytest.fixture(scope="session")
def study(swept):
    """Return the finished sweep that many tests read: early exit by fusion and by fp16, the usual recipe beside it."""
    return swept(
        "sweep_name=study",
        "arch=early_exit",
        "hw=fusion,fp16",
        "protocol.coursework=true",
        "protocol.ceilings=true",
        "protocol.why=true",
        "tracking.report=true",
    )

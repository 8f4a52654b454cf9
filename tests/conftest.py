"""What many rooms' tests share: composed configs, and the parts of a tiny network, made once a session."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

LEAN = ("protocol.why=false", "tracking.report=false")  # what comes after measuring takes longer than the tiny cells do
TINY = ("model=densenet_tiny", "batch_size=2")


def pytest_configure() -> None:
    """Let Ctrl-C reach the programs under test: a shell that starts tests in the background ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)  # before -m chooses by marker
def pytest_collection_modifyitems(items) -> None:
    """Mark as slow what takes minutes, and all of tests/integration."""
    for item in items:
        if item.get_closest_marker("minutes") or "integration" in item.path.parts:
            item.add_marker("slow")


@pytest.fixture(scope="session", autouse=True)
def _no_store_or_cache_of_the_users():
    """Let no variable of the person who runs the tests lead into their own store or cache."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "HARNESS_CACHE"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """One artifact cache for the session: the same export is made once."""
    from harness.system.cache import Cache

    return Cache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def configured():
    """Return a function: configured("hw=fp16") -> the typed config of that one job (densenet_tiny, batch of 2)."""
    from harness.sweep.command_line import compose_jobs

    def make(*overrides):
        (job,) = compose_jobs([*TINY, *overrides])
        return job.config

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
    from harness.sweep.build import prepare

    def make(*overrides, engine="onnxruntime"):
        plan = planned(*overrides, engine=engine)
        return plan, prepare(plan, cache, Silent())

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
    taken_out = ("MLFLOW_TRACKING_URI", "HARNESS_CACHE")
    return {name: value for name, value in os.environ.items() if name not in taken_out}


@pytest.fixture
def children():
    """Return a function: children() -> the processes below this one, without multiprocessing's own bookkeeper."""
    import psutil

    def alive(process):
        try:
            return process.status() != psutil.STATUS_ZOMBIE and "resource_tracker" not in " ".join(process.cmdline())
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
def store_root(tmp_path_factory) -> Path:
    """One embedded store for the sweeps of the session: making its database takes seconds."""
    return tmp_path_factory.mktemp("store") / "mlruns"


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
    """Return a function: swept("hw=fusion") -> the finished process of that sweep, run in a folder of its own."""

    def run(*overrides, cache_dir=None):
        arguments, environment = command(*overrides, cache_dir=cache_dir)
        folder = tmp_path_factory.mktemp("cwd")
        done = subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
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

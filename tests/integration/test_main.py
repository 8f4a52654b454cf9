"""The command line as a person uses it: exit status, what is printed, what is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time

import psutil
import pytest

import harness
from called import called
from harness.sweep.main import main
from harness.system.counts import limits
from harness.tracking.load import load

ON_ENGINE = ("reference=engine", "engine=onnxruntime")


def started(arguments, tmp_path, environment) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "harness", *arguments],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def test_help_names_every_group_and_option_and_leaves_nothing(tmp_path, plain_environment):
    done = started(["--help"], tmp_path, plain_environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert "arch: early_exit, grouped, identity, low_rank, none, pruned, reduced_depth, reduced_growth" in done.stdout
    for group in ("model", "hw", "engine", "batch", "scenario", "data", "protocol", "tracking", "experiment"):
        assert f"{group}: " in done.stdout
    assert "protocol.budget_s=240.0 " in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_help_does_not_import_what_takes_seconds(tmp_path, plain_environment):
    code = (
        "import sys; from harness.sweep.main import main; sys.argv = ['harness']; status = main(['--help'])\n"
        "heavy = {'torch', 'mlflow', 'onnx', 'onnxruntime', 'tensorrt_rtx', 'pandas', 'scipy'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path, env=plain_environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_a_question_for_hydra_that_can_not_be_answered_ends_with_status_2(tmp_path, plain_environment):
    done = started(["--cfg", "job", "model=nowhere:net"], tmp_path, plain_environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("harness: model=nowhere:net") and len(done.stderr.splitlines()) == 1


def test_version(tmp_path, plain_environment):
    done = started(["--version"], tmp_path, plain_environment)
    assert (done.returncode, done.stdout.strip()) == (0, f"harness {harness.__version__}")


BAD = {
    "unknown group choice": (["arch=gruoped"], "grouped"),
    "unknown option": (["arch=grouped", "arch.grouped.group=2"], "did you mean arch.grouped.groups?"),
    "option of a technique that is off": (["hw=fusion", "arch.grouped.groups=2"], "add arch=grouped"),
    "unknown engine": (["engine=tensorrtx"], "tensorrt_rtx"),
    "new name": (["+foo=1"], "unknown option foo"),
    "unknown flag": (["--frob"], "--frob"),
    "impossible batch": (["batch_size=0"], "at least 1"),
    "compiled without eager": (["hw=compiled", "reference=engine"], "use reference=eager"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_request_that_can_not_be_read_ends_with_status_2_and_creates_nothing(case, tmp_path, plain_environment):
    arguments, says = BAD[case]
    arguments = ["model=densenet_tiny", *arguments]
    if case == "unknown group choice":  # one as a person starts it, to the exit status of the interpreter
        done = started(arguments, tmp_path, plain_environment)
    else:
        done = called(main, arguments, tmp_path, plain_environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert 1 <= len(done.stderr.splitlines()) <= 2
    assert done.stderr.startswith("harness: ")
    assert says in done.stderr
    assert list(tmp_path.iterdir()) == []


# these are found only with the network in hand: in this process, because importing torch takes seconds each time
IMPOSSIBLE = {
    "groups that don't divide": (["arch=grouped", "arch.grouped.groups=3"], "1, 2, 4, 8"),
    "no such exit": (["arch=early_exit", "arch.early_exit.after_block=7"], "1, 2, 3, 4"),
    "rank too large": (["arch=low_rank", "arch.low_rank.rank=100000"], "its limit is"),
    "one of many jobs": (["-m", "arch=grouped", "arch.grouped.groups=2,4,3"], "1, 2, 4, 8"),
    "engine without its GPU": (["engine=tensorrt", "hw=fusion"], "engine tensorrt can't run here: "),
    "engine that can't run here": (["engine=tensorrt_rtx", "hw=fusion"], "engine.build_only=true"),
    "engine without a cell": (["engine=onnxruntime", "arch=grouped"], "reference=engine"),
    "no such device": (["engine.device=cuda"], "no CUDA GPU"),
    "boundary of a GPU": (["protocol.primary=device"], "only wall"),
    "weights that are not there": (["model.weights=nowhere.pt"], "no such file"),
    "two devices in one sweep": (["-m", "engine.device=cpu,auto"], "engine.device differs between"),
    "two corrections in one sweep": (["-m", "protocol.family=holm,bh"], "protocol.family differs between"),
    "no such correction": (["protocol.family=fdr"], "choose one of holm, bh"),
    "no builds at once": (["engine.build_jobs=0"], "engine.build_jobs=0"),
    "TF32 on a CPU": (["engine.device=cpu", "precision.tf32=true"], "a CPU has no TF32"),
    "a seed below zero": (["protocol.seed=-1"], "protocol.seed=-1"),
    "unwritable store": (["tracking.root=/proc/nowhere"], "tracking store"),
    "a config group that is a number": (["=8"], "write key=value"),
    "unwritable cache": (["cache.dir=/proc/nowhere"], "cache.dir=/proc/nowhere"),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_what_can_not_be_done_ends_with_status_2_before_anything_is_created(case, tmp_path, monkeypatch, capsys):
    arguments, says = IMPOSSIBLE[case]
    flags = [argument for argument in arguments if argument.startswith("-")]
    rest = [argument for argument in arguments if not argument.startswith("-")]
    monkeypatch.chdir(tmp_path)
    assert main([*flags, "model=densenet_tiny", *rest]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    most = 4 if case == "one of many jobs" else 2  # how many jobs, which, their reason, how to go on without them
    assert 1 <= len(printed.err.splitlines()) <= most
    assert printed.err.startswith("harness: ")
    assert says in printed.err
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_prints_factor_interval_verdict_and_where_it_is_stored(study, store_root):
    assert study.returncode == 0, study.stderr
    assert study.stderr == ""
    lines = study.stdout.splitlines()
    assert [line for line in lines if line.startswith("[1/2] early_exit x fusion b2: done")]
    assert [line for line in lines if line.startswith("[2/2] early_exit x fp16 b2: done")]
    frame = load("study", str(store_root))
    for _, row in frame.iterrows():
        interval = limits(row["interaction/low"], row["interaction/high"])
        words = f"{row['interaction/factor']:.3f} {interval}"
        (line,) = [line for line in lines if words in line and not line.lstrip().startswith("together")]
        assert line.startswith("early_exit x") and row["verdict"] in line  # a long name goes on in the next line
        assert f"{row['gain/combined']:.2f}x" in line
    assert f"sqlite:///{store_root}/mlflow.db" in lines[-1]
    assert [line for line in lines if "degraded" in line and "fp16 emulated" in line]
    assert [line for line in lines if line.startswith("engine=onnxruntime: ")]


@pytest.fixture
def sweep_here(command, tmp_path, monkeypatch, capsys):
    """Return a function: sweep_here("hw=fusion") -> (exit status, output) of a sweep without a process of its own.

    It builds and measures as ever, only torch and MLflow are imported already.
    """
    monkeypatch.chdir(tmp_path)

    def run(*overrides, cache_dir=None):
        arguments, environment = command(*overrides, cache_dir=cache_dir)
        monkeypatch.setenv("HARNESS_CACHE", environment["HARNESS_CACHE"])
        monkeypatch.setattr(tempfile, "tempdir", environment["TMPDIR"])
        status = main(arguments[arguments.index("harness") + 1 :])
        return status, capsys.readouterr().out

    return run


def test_one_failed_job_keeps_its_reason_the_others_their_results_and_the_status_is_1(sweep_here, store_root):
    status, output = sweep_here("sweep_name=one-fails", *ON_ENGINE, "protocol.worker_timeout_s=0.01,60")
    assert status == 1
    assert "FAILED" in output
    frame = load("one-fails", str(store_root)).set_index("protocol.worker_timeout_s")
    failed, fine = frame.loc["0.01"], frame.loc["60.0"]
    assert (failed["status"], fine["status"]) == ("FAILED", "FINISHED")
    assert failed["error"] == "baseline: hung: no reply to 'load' within 0.01 s, killed"
    assert fine["error"] is None
    assert fine["baseline/throughput/wall"] > 0
    assert failed["error"] in output


def test_a_build_that_the_engine_itself_refuses_fails_its_own_quartet_alone(sweep_here, store_root):
    pytest.importorskip("tensorrt_rtx", reason="needs pip install tensorrt-rtx")
    turing = ("engine=tensorrt_rtx", "engine.build_only=true", "engine.compute_capability=7.5")
    status, output = sweep_here("sweep_name=turing", *turing, "hw=fusion,fp16")
    assert status == 1
    frame = load("turing", str(store_root)).set_index("hw")
    assert frame["status"].to_dict() == {"fusion": "FAILED", "fp16": "FINISHED"}
    assert "FP32 GEMM is not supported" in frame.loc["fusion", "error"]
    assert frame.loc["fp16", "hw/build/engine_mb"] > 0.1
    assert "[1/2] none x fusion b2: FAILED: hw: engine tensorrt_rtx" in output
    assert "[2/2] none x fp16 b2: done" in output


def test_the_same_sweep_again_builds_nothing_and_a_changed_option_does(sweep_here, store_root, tmp_path):
    builds = ("engine.build_only=true", "hw=fusion", *ON_ENGINE)
    for name, threads in (("first", 1), ("again", 1), ("changed", 2)):
        status, output = sweep_here(
            f"sweep_name={name}", *builds, f"engine.threads={threads}", cache_dir=tmp_path / "c"
        )
        assert status == 0, output
    rows = {name: load(name, str(store_root)).iloc[0] for name in ("first", "again", "changed")}
    assert {name: row["build/cache_hit"] for name, row in rows.items()} == {"first": 0, "again": 1, "changed": 0}
    assert rows["first"]["baseline/build/cache_hit"] == rows["first"]["hw/build/cache_hit"] == 0
    assert rows["changed"]["baseline/build/cache_hit"] == 0
    assert rows["first"]["hw/build/engine_s"] == rows["again"]["hw/build/engine_s"] > 0
    assert "baseline/throughput/wall" not in rows["first"].dropna()


def test_an_interrupt_ends_a_sweep_within_seconds_marks_it_and_leaves_no_process(command, store_root, tmp_path):
    """As Ctrl-C in a terminal does it: the whole process group gets the signal, in the middle of measuring."""
    arguments, environment = command(
        "sweep_name=interrupted", *ON_ENGINE, "protocol.budget_s=600", "protocol.max_blocks=100000",
        "protocol.half_width=1e-9",
    )  # fmt: skip
    process = subprocess.Popen(
        arguments, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip
    family: list[psutil.Process] = []
    try:
        deadline = time.monotonic() + 120
        while not any(_works(child) for child in family) and time.monotonic() < deadline:
            time.sleep(0.1)
            family = psutil.Process(process.pid).children(recursive=True)
            assert process.poll() is None, process.communicate()
        assert family
        started = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)
        output, errors = process.communicate(timeout=30)
        seconds = time.monotonic() - started
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130
    assert seconds < 10  # the answer comes first: see test_interruption.py
    (line,) = errors.splitlines()
    assert line.startswith("harness: interrupted: 0 of 1 quartet done. To resume, run the same command: python -m")
    assert "sweep_name=interrupted" in line
    assert "Traceback" not in output
    _, alive = psutil.wait_procs(family, timeout=5)
    assert alive == []
    (row,) = load("interrupted", str(store_root)).to_dict("records")
    assert (row["status"], row["error"]) == ("KILLED", "interrupted")


def _works(process: psutil.Process) -> bool:
    """Whether a worker has used the CPU for longer than loading takes: it is being timed."""
    try:
        return "spawn_main" in " ".join(process.cmdline()) and sum(process.cpu_times()[:2]) > 1.5
    except psutil.NoSuchProcess:
        return False

"""Whole sweeps on TensorRT: what they leave in the store and on the screen, however they end."""

from __future__ import annotations

import re
import signal
import subprocess
import time

import pytest

from harness.engines.tensorrt import TENSORRT
from harness.tracking.load import load

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU with CUDA"),
    pytest.mark.skipif(TENSORRT.availability("cuda").run is not None, reason="needs TensorRT"),
]
ON = ("engine=tensorrt", "hw=[fp16,fusion]", "engine.builder_level=0", "protocol.builds=1")


def test_a_sweep_profiles_its_layers_counts_its_memory_and_leaves_nothing_on_stderr(swept, store_root):
    done = swept(*ON, "arch=early_exit", "protocol.why=true", "sweep_name=whole")
    assert (done.returncode, done.stderr) == (0, "")
    row = load("whole", str(store_root)).iloc[0]
    assert (row["status"], row["boundary"]) == ("FINISHED", "device")
    memory = [value for name, value in row.items() if str(name).endswith("gpu/peak_memory_mb")]
    assert len(memory) == 4 and min(memory) > 100
    assert row["why"] and row["why/attributed"] > 0.5  # layers were timed, and most of them are of a known part


def test_a_build_that_fails_is_a_failed_row_and_leaves_nothing_on_stderr(swept, store_root):
    done = swept("engine=tensorrt", "hw=fp16", "reference=engine", "engine.build_limit_s=0.01", "sweep_name=in_no_time")
    assert (done.returncode, done.stderr) == (1, "")
    row = load("in_no_time", str(store_root)).iloc[0]
    assert row["status"] == "FAILED"
    # the monitor cancels it, or, where TensorRT does not call that for some seconds, its process is killed
    assert re.search(r"(did not end within|the build passed) engine\.build_limit_s=0\.01", row["error"])


def test_without_cuda_graphs_every_kernel_is_launched_and_nothing_is_left_on_stderr(swept):
    done = swept(*ON, "hw.fusion.cuda_graph=false", "sweep_name=launched")
    assert (done.returncode, done.stderr) == (0, "")


def test_ctrl_c_in_the_middle_of_a_build_is_answered_within_a_second(command, tmp_path, children):
    slow = ("engine=tensorrt", "hw=[fp16,fusion]", "arch=grouped")  # at level 3 it takes a minute
    arguments, environment = command(*slow, cache_dir=tmp_path / "empty")
    with subprocess.Popen(
        arguments, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as sweep:
        deadline = time.monotonic() + 120
        while not (tmp_path / "empty" / "engine").exists():  # made when the first build begins
            assert time.monotonic() < deadline
            time.sleep(0.1)
        time.sleep(3)
        sweep.send_signal(signal.SIGINT)
        signalled = time.monotonic()
        line = sweep.stderr.readline()
        assert time.monotonic() - signalled < 1.0
        assert line.startswith("harness: interrupted")
        rest = sweep.communicate(timeout=30)[1]
    assert (sweep.returncode, rest) == (130, "")
    assert children() == []

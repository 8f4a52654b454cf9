"""Workers: a process a cell. However one ends, the reason arrives in one line and no process is left."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import psutil
import pytest

from harness.config import ProtocolConfig
from harness.measure.coordinator import workers
from harness.measure.progress import Silent
from harness.measure.protocol import measure
from harness.system.cache import file_sha256
from harness.system.errors import CellError


@pytest.fixture(scope="module")
def quartet(prepared):
    """Return the cells of an identity control on ONNX Runtime: four small, quick workers."""
    return list(prepared("arch=identity", "hw=identity", "reference=engine")[1].values())


@pytest.fixture(scope="module")
def alone(quartet):
    """Return one of them."""
    return quartet[:1]


class AfterTheFirstBlock(Silent):
    """Calls a function a moment after the first block: in the middle of the slice that comes next."""

    def __init__(self, action, delay_s: float) -> None:
        self.action, self.delay_s = action, delay_s
        self.blocks = 0

    def block(self, standing, remaining_s) -> None:
        self.blocks += 1
        if self.blocks == 1:
            threading.Timer(self.delay_s, self.action).start()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_worker_that_dies_in_the_middle_of_a_slice_names_the_signal_and_the_cell(alone, children, number):
    progress = AfterTheFirstBlock(lambda: children()[0].send_signal(number), delay_s=0.5)
    settings = ProtocolConfig(slice_s=1.0, warmup_max_s=0.2)
    with pytest.raises(CellError) as failure:
        measure(alone, settings, "wall", progress)
    assert progress.blocks == 1
    text = str(failure.value)
    assert text.startswith(f"baseline: worker died of {number.name}")
    assert "during 'slice'" in text
    assert "\n" not in text
    assert ("out of memory?" in text) == (number is signal.SIGKILL)
    assert children() == []


def test_of_four_workers_the_one_that_died_is_named_and_the_others_are_ended(quartet, children):
    with (
        pytest.raises(CellError, match=r"^hw: worker died of SIGKILL"),
        workers(quartet) as hands,
    ):
        for handle in hands.values():
            handle.ask("load")
        os.kill(hands["hw"].pid, signal.SIGKILL)
        time.sleep(0.2)
        for one in quartet:
            hands[one.name].ask("verify", one.expected.inputs)
    assert children() == []


def test_a_worker_that_hangs_is_killed_when_its_time_is_over(alone, children):
    with workers([alone[0]]) as handles:
        handle = handles["baseline"]
        handle.ask("load")
        os.kill(handle.pid, signal.SIGSTOP)
        started = time.monotonic()
        with pytest.raises(CellError, match=r"^baseline: hung: no reply to 'verify' within 0\.5 s, killed$"):
            handle.ask("verify", alone[0].expected.inputs, timeout_s=0.5)
        assert 0.4 < time.monotonic() - started < 5
        assert children() == []


def test_an_error_in_a_worker_is_one_line_and_the_worker_goes_on(alone):
    task = alone[0]
    with workers([task]) as handles:
        handle = handles["baseline"]
        handle.ask("load")
        with pytest.raises(CellError, match=r"^baseline: \w+: [^\n]+$"):
            handle.ask("verify", np.zeros((5, 3, 64, 64), dtype=np.float32))  # more than its buffers hold
        outputs = handle.ask("verify", task.expected.inputs)
    np.testing.assert_allclose(outputs.final, task.expected.heads["logits"], rtol=0, atol=1e-5)


def test_an_engine_that_can_not_be_loaded_says_why(alone, tmp_path):
    artifact = alone[0].artifacts[0]
    (tmp_path / artifact.main_file).write_bytes(b"junk")
    files = {artifact.main_file: file_sha256(tmp_path / artifact.main_file)}  # sealed as if it had been built so
    spec = replace(alone[0], artifacts=(replace(artifact, path=tmp_path, files=files),))
    with workers([spec]) as handles, pytest.raises(CellError, match=r"^baseline: onnxruntime could not load: [^\n]+$"):
        handles["baseline"].ask("load")


@pytest.mark.spawned
def test_no_process_is_left_however_the_block_ends(quartet, children):
    specs = quartet
    with workers(specs) as handles:
        pids = {handle.pid for handle in handles.values()}
        assert pids == {child.pid for child in children()}
        assert len(pids) == 4
    assert children() == []
    with pytest.raises(KeyboardInterrupt), workers(specs) as handles:
        handles["arch"].send("load")  # under way while the interrupt comes
        raise KeyboardInterrupt
    assert children() == []


@pytest.mark.spawned
def test_a_worker_does_not_die_of_the_interrupt_that_is_meant_for_its_coordinator(alone):
    with workers([alone[0]]) as handles:
        handles["baseline"].ask("load")
        os.kill(handles["baseline"].pid, signal.SIGINT)
        handles["baseline"].ask("verify", alone[0].expected.inputs)


def _coordinate_and_die(spec, connection) -> None:
    with workers([spec]) as handles:
        handles["baseline"].ask("load")
        connection.send(handles["baseline"].pid)
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.spawned
def test_a_worker_ends_with_its_coordinator_even_if_that_one_is_killed(alone):
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_coordinate_and_die, args=(alone[0], theirs))
    process.start()
    assert ours.poll(60)
    pid = ours.recv()
    process.join(10)
    assert process.exitcode == -signal.SIGKILL
    deadline = time.monotonic() + 5
    while _runs(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(pid)


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_what_a_worker_is_given_brings_no_torch_with_it(prepared, tmp_path):
    """The pools of its threads are set up after it was unpickled, and an engine without torch has no memory for it."""
    _, cells = prepared("arch=early_exit", "hw=fp16")
    packed = tmp_path / "cells.pkl"
    packed.write_bytes(pickle.dumps([replace(cell, expected=None) for cell in cells.values()]))
    program = "import pickle, sys; pickle.load(open(sys.argv[1], 'rb')); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program, packed], check=True)


@pytest.mark.spawned
def test_a_waiting_worker_burns_no_cpu(grouped_fusion):
    """On eager (torch's own thread pool) and on ONNX Runtime (its own), both after work."""
    cells = [grouped_fusion[1][role] for role in ("baseline", "combined")]
    assert [cell.engine for cell in cells] == ["eager", "onnxruntime"]
    with workers(cells) as handles:
        for cell in cells:
            handles[cell.name].ask("load")
            handles[cell.name].ask("verify", cell.expected.inputs)

        def used() -> dict[str, float]:
            times = {role: psutil.Process(handle.pid).cpu_times() for role, handle in handles.items()}
            return {role: spent.user + spent.system for role, spent in times.items()}

        time.sleep(0.3)
        before, started = used(), time.monotonic()
        time.sleep(1.0)
        after, seconds = used(), time.monotonic() - started
    shares = {role: (after[role] - before[role]) / seconds for role in before}
    assert set(shares) == {"baseline", "combined"}
    assert max(shares.values()) < 0.05, shares

"""A job takes one device of those it sees, and no other job takes the same one as long as it has it."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import time
from contextlib import ExitStack

import pytest

from harness.measure.lock import SIMULATED, seat, simulated_device, visible_devices
from harness.system.locks import try_lock


@pytest.fixture(autouse=True)
def own_locks(tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_LOCK_DIR", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv(SIMULATED, raising=False)


def test_a_cpu_is_one_device_and_nothing_is_chosen(tmp_path):
    assert visible_devices("cpu") == ("cpu",)
    with seat("cpu"):
        assert "CUDA_VISIBLE_DEVICES" not in os.environ
    assert list(tmp_path.iterdir()) == []
    assert simulated_device() == ""


def test_simulated_gpus_are_numbered_and_named_as_what_they_are(monkeypatch):
    monkeypatch.setenv(SIMULATED, "2")
    assert visible_devices("cpu") == visible_devices("cuda") == ("0", "1")
    assert simulated_device() == "simulated-gpu-0"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert simulated_device() == "simulated-gpu-1"


def test_what_a_scheduler_shows_is_taken_as_it_is(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-7")
    with seat("cuda"):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-7"


def test_two_seats_are_two_devices_and_given_back(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-7,GPU-8")
    with seat("cuda"):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-7"
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-7,GPU-8")  # as another process would see it
        with seat("cuda"):
            assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-8"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-7,GPU-8"


@pytest.mark.parametrize("text", [str, str.encode])  # bytes before nvidia-ml-py 12
def test_where_no_scheduler_chose_a_job_takes_one_of_all_gpus_by_its_uuid(nvml, monkeypatch, text):
    monkeypatch.setattr("pynvml.nvmlDeviceGetUUID", text)
    assert visible_devices("cuda") == ("GPU-aaaa", "GPU-bbbb", "GPU-cccc")
    with try_lock("seat-GPU-aaaa"), seat("cuda"):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-bbbb"
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    assert nvml.opened == 0


def test_nvml_is_closed_where_it_can_not_tell_the_gpus(nvml, monkeypatch):
    import pynvml

    def lost(handle):
        raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)

    monkeypatch.setattr(pynvml, "nvmlDeviceGetUUID", lost)
    with pytest.raises(pynvml.NVMLError):
        visible_devices("cuda")
    assert nvml.opened == 0


def test_who_waits_holds_no_more_files_open_the_longer_it_waits(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-7,GPU-8")
    open_files = []

    def wait(seconds):
        open_files.append(len(os.listdir("/proc/self/fd")))
        if len(open_files) == 5:
            others.close()

    monkeypatch.setattr("harness.measure.lock.time.sleep", wait)
    with ExitStack() as others:
        for name in ("GPU-7", "GPU-8"):
            assert others.enter_context(try_lock(f"seat-{name}"))
        with seat("cuda"):
            assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-7"
    assert len(open_files) == 5
    assert len(set(open_files)) == 1


def _sit(gate, results):
    gate.wait()
    for _ in range(5):
        with seat("cpu"):
            began = time.monotonic()
            time.sleep(0.05)
            results.put((os.environ["CUDA_VISIBLE_DEVICES"], began, time.monotonic()))


def test_more_jobs_than_devices_wait_and_never_share_one(monkeypatch):
    monkeypatch.setenv(SIMULATED, "2")
    context = multiprocessing.get_context("fork")
    gate, results = context.Barrier(4), context.Queue()
    jobs = [context.Process(target=_sit, args=(gate, results)) for _ in range(4)]
    for job in jobs:
        job.start()
    spans = [results.get(timeout=60) for _ in range(20)]
    for job in jobs:
        job.join()
    for name in ("0", "1"):
        own = sorted(span[1:] for span in spans if span[0] == name)
        assert own  # both were used
        assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(own))

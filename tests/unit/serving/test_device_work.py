"""The GPU's way of serving, on a CPU: streams and events are stand-ins, images, answers and survivors are real tensors.

What only a GPU can show, the order of two streams, is not shown here; whose image, answer and features are where is.
"""

from __future__ import annotations

import contextlib
import time

import numpy as np
import pytest
import torch

from harness.engines.base import TensorSpec
from harness.serving.policy import BatchPolicy, powers_of_two
from harness.serving.records import Request
from harness.serving.staging import DeviceAnswers, DeviceStagePool, DeviceStaging
from harness.serving.work import Work
from harness.techniques.arch.exit_policy import ExitPolicy, confidence
from harness.techniques.arch.stages import ONE_STAGE

CLASSES = 4
SURE = ExitPolicy("threshold", 0.5, 0.5)


class Stream:
    """All is done when it is enqueued."""

    def wait_stream(self, other):
        """Nothing is left to wait for."""

    def synchronize(self):
        """Likewise."""


class Event:
    """Done at the second time of asking, as a batch in flight is not done at once."""

    def __init__(self, enable_timing=False):
        self._asked, self._timed, self._at = 0, enable_timing, None

    def record(self, stream):
        self._asked, self._at = 0, time.perf_counter()

    def query(self):
        assert self._at is not None, "an event that was never recorded counts as done on a GPU"
        self._asked += 1
        return self._asked > 1

    def synchronize(self):
        assert self._at is not None

    def elapsed_time(self, other):
        assert self._timed and other._timed
        return (other._at - self._at) * 1e3


@pytest.fixture(autouse=True)
def cuda(monkeypatch):
    """Put stand-ins in the place of what needs a GPU."""
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *shape, pin_memory=False, **named: empty(*shape, **named))
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self.clone())
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)


class Stage:
    """A stage whose outputs are new tensors at every call, as eager's are; a captured one's are kept."""

    def __init__(self, stream, most, feeds, outputs, kept=False):
        self.stream = stream
        self.input_specs = (TensorSpec(feeds, (-1, 3), "float32"),)
        self.output_specs = tuple(TensorSpec(name, (-1, width), "float32") for name, (width, _) in outputs.items())
        self._input = torch.zeros(most, 3)
        self._makers, self._kept, self._outputs = outputs, {} if kept else None, {}
        self.sizes = []

    def input_buffers(self):
        return {self.input_specs[0].name: self._input}

    def output_buffers(self):
        return self._outputs

    def enqueue(self, size):
        self.sizes.append(size)
        with torch.inference_mode():
            made = {name: maker(self._input[:size]) for name, (_, maker) in self._makers.items()}
        if self._kept is not None:
            kept = self._kept.setdefault(size, made)
            with torch.inference_mode():
                for name, value in made.items():
                    kept[name].copy_(value)
            made = kept
        self._outputs = made


def logits_of(rows, offset=0.0):
    """Return [B, 4]: an image's first number says how sure an exit is, and all of it shows which image it is."""
    return torch.cat([rows, rows.sum(dim=1, keepdim=True) / 9], dim=1) + offset


def images(count):
    """Return [count, 3]: every second one is sure enough to leave."""
    out = np.random.default_rng(5).normal(0, 0.1, (count, 3)).astype(np.float32)
    out[::2, 0] += 5
    return out


def serve(work, groups):
    """Serve groups of images as the server's loop does, and return the requests."""
    work.keeps_answers = True
    requests, done = [], 0
    for number, group in enumerate([*groups, []]):
        coming = [Request(sample, sample, time.perf_counter()) for sample in group]
        requests += coming
        while coming or (number == len(groups) and done < len(requests)):
            count = work.room()
            if coming and count:
                work.take_in(coming[:count])
                coming = coming[count:]
            done += len(work.answered())
            if not work.busy:
                work.start(flush=True)
    return requests


def groups_of(count, seed):
    """Cut 0..count into groups of 1 to 7."""
    cuts = np.cumsum(np.random.default_rng(seed).integers(1, 8, count))
    return [part.tolist() for part in np.split(np.arange(count), cuts[cuts < count])]


@pytest.mark.parametrize("kept", [False, True], ids=["launched", "captured"])
@pytest.mark.parametrize("seed", range(4))
def test_every_request_gets_its_own_answer_from_the_device(seed, kept):
    samples = images(40)
    stage = Stage(Stream(), 8, "input", {"logits": (CLASSES, logits_of)}, kept)
    work = Work((stage,), (BatchPolicy(8, buckets=powers_of_two(8)),), ONE_STAGE, {"input": samples})
    assert isinstance(work._staging, DeviceStaging) and isinstance(work._answers, DeviceAnswers)
    requests = serve(work, groups_of(40, seed))
    expected = logits_of(torch.from_numpy(samples)).numpy()
    for request in requests:
        np.testing.assert_allclose(request.answer, expected[request.sample], rtol=1e-6)
    assert set(stage.sizes) <= {1, 2, 4, 8}


@pytest.mark.parametrize("kept", [False, True], ids=["launched", "captured"])
@pytest.mark.parametrize("seed", range(4))
def test_survivors_of_many_batches_keep_their_features_on_the_device(seed, kept):
    samples = images(60)
    stream = Stream()
    first = Stage(
        stream, 8, "input", {"features": (3, lambda rows: rows * 2), "exit_logits": (CLASSES, logits_of)}, kept
    )
    second = Stage(stream, 5, "features", {"logits": (CLASSES, lambda rows: logits_of(rows, 100.0))}, kept)
    policy, tail = BatchPolicy(8, buckets=powers_of_two(8)), BatchPolicy(5, 10**7, buckets=powers_of_two(5))
    work = Work((first, second), (policy, tail), SURE, {"input": samples})
    assert isinstance(work._pools[0], DeviceStagePool)
    requests = serve(work, groups_of(60, seed))
    early = logits_of(torch.from_numpy(samples))
    late = logits_of(torch.from_numpy(samples) * 2, 100.0).numpy()
    leaves = confidence(early).numpy() >= 0.5
    assert leaves.sum() == 30
    for request in requests:
        assert request.exited == leaves[request.sample]
        expected = early.numpy() if request.exited else late
        np.testing.assert_allclose(request.answer, expected[request.sample], rtol=1e-5)
    runs = {stage: [run for run in work.runs if run.stage == stage] for stage in (1, 2)}
    assert sum(run.requests for run in runs[2]) == 30
    assert all(run.host_sync_s >= 0 for run in runs[1])


def test_dropped_images_do_not_come_back():
    samples = images(8)
    stage = Stage(Stream(), 4, "input", {"logits": (CLASSES, logits_of)})
    work = Work((stage,), (BatchPolicy(4, max_queue_delay_us=10**9),), ONE_STAGE, {"input": samples})
    work.take_in([Request(sample, sample, time.perf_counter()) for sample in range(3)])
    assert len(work.drop()) == 3
    (request,) = serve(work, [[7]])
    np.testing.assert_allclose(request.answer, logits_of(torch.from_numpy(samples[7:8])).numpy()[0], rtol=1e-6)

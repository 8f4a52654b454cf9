"""A batch on a GPU: tensors take the same way as arrays, stages wait for each other's streams, graphs are replayed.

The tensors are the CPU's; the streams note who waits for whom, and on which of them torch is told to work.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from simulated_gpu import SimulatedStream

from harness.arch.exit_policy import ExitPolicy
from harness.engines.base import TensorSpec
from harness.measure.runner import make_runner

BATCH, CLASSES = 6, 4
LEAVING = (1, 4, 5)  # by `inputs`: the surest half


def inputs(seed: int = 0) -> np.ndarray:
    """Return a batch whose samples 1, 4 and 5 have by far the clearest exit logits."""
    out = np.random.default_rng(seed).uniform(0, 0.5, (BATCH, CLASSES)).astype(np.float32)
    out[LEAVING, (0, 1, 2)] += 5
    return out


@dataclass
class Stage:
    """An executable whose outputs are its input, some of them negated; `log` is what all stages did, in order."""

    name: str
    outputs_by_sign: dict[str, int]
    rows: int
    log: list[tuple[Any, ...]]
    gpu: Any = None
    stream: Any = None
    refuses: str | None = None
    degraded: tuple[str, ...] = ()
    captured: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        new = (lambda: np.zeros((self.rows, CLASSES), np.float32)) if self.gpu is None else self._tensor
        self._in, self._out = {"x": new()}, {name: new() for name in self.outputs_by_sign}
        self.input_specs = (TensorSpec("x", (-1, CLASSES), "float32"),)
        self.output_specs = tuple(TensorSpec(name, (-1, CLASSES), "float32") for name in self._out)

    def _tensor(self) -> torch.Tensor:
        return torch.zeros(self.rows, CLASSES)

    def input_buffers(self) -> dict[str, Any]:
        return self._in

    def output_buffers(self) -> dict[str, Any]:
        if self.gpu is not None:
            self.log.append(("read", self.name, self.gpu.current))
        return self._out

    def write_inputs(self, arrays: dict[str, np.ndarray]) -> None:
        for name, array in arrays.items():
            self._in[name][: len(array)] = array if self.gpu is None else torch.from_numpy(array)

    def poison_outputs(self) -> None:
        for buffer in self._out.values():
            buffer[:] = float("nan")

    def enqueue(self, count: int) -> None:
        self.log.append(("enqueue", self.name, count))
        self._run(count)

    def _run(self, count: int) -> None:
        for name, sign in self.outputs_by_sign.items():
            self._out[name][:count] = sign * self._in["x"][:count]

    def capture(self, count: int) -> str | None:
        if self.refuses is None:
            self.captured.append(count)
        return self.refuses

    def replay(self, count: int) -> None:
        assert count in self.captured, f"{self.name} has no graph of {count} samples"
        self.log.append(("replay", self.name, count))
        self._run(count)

    def synchronize(self) -> None:
        self.log.append(("synchronize", self.name))

    def outputs(self, count: int) -> dict[str, np.ndarray]:
        return {name: np.array(buffer[:count]) for name, buffer in self._out.items()}


class Stream(SimulatedStream):
    """Notes whom it waits for."""

    def __init__(self, gpu, name: str, log: list[tuple[Any, ...]]) -> None:
        super().__init__(gpu, name)
        self._log = log

    def wait_stream(self, other: SimulatedStream) -> None:
        self._log.append(("wait", self.name, other.name))


def two_stages(gpu=None, shared_stream: bool = False, log=None) -> tuple[Stage, Stage]:
    log = [] if log is None else log
    streams = (None, None) if gpu is None else (Stream(gpu, "first", log), Stream(gpu, "second", log))
    first = Stage("stage1", {"features": 1, "exit_logits": 1}, BATCH, log, gpu, streams[0])
    second = Stage("stage2", {"logits": -1}, BATCH, log, gpu, streams[0] if shared_stream else streams[1])
    return first, second


HALF = ExitPolicy("share", 0.5)


def answers(batch: np.ndarray) -> np.ndarray:
    """Return what a batch must give: who leaves has its exit logits, who stays the negated ones."""
    out = -batch
    out[list(LEAVING)] *= -1
    return out


@pytest.mark.parametrize("policy", [HALF, ExitPolicy("threshold", 0.5, 0.8)], ids=["share", "threshold"])
def test_tensors_take_the_same_way_as_arrays(gpu, policy):
    for on in (None, gpu):
        runner = make_runner(two_stages(on), policy, BATCH)
        for seed in (0, 1):  # nothing stays of the first
            runner.write(inputs(seed))
            runner.launch()
            runner.wait()
            np.testing.assert_array_equal(runner.result, answers(inputs(seed)))
        found = runner.verify(inputs(2))
        np.testing.assert_array_equal(found.final, answers(inputs(2)))
        np.testing.assert_array_equal(found.heads["logits"], -inputs(2))
        assert np.flatnonzero(found.exited).tolist() == sorted(LEAVING)
        assert isinstance(runner.result, np.ndarray if on is None else torch.Tensor)


def test_each_stage_waits_for_the_others_stream_and_torch_works_on_the_second_ones(gpu):
    log: list[tuple[Any, ...]] = []
    first, second = two_stages(gpu, log=log)
    runner = make_runner((first, second), HALF, BATCH)
    runner.write(inputs())
    log.clear()
    runner.launch()
    runner.wait()
    assert log == [
        ("wait", "first", "second"),  # the survivors of the last batch have been read
        ("enqueue", "stage1", BATCH),
        ("wait", "second", "first"),
        ("read", "stage1", second.stream),
        ("enqueue", "stage2", 3),
        ("read", "stage2", second.stream),
        ("synchronize", "stage1"),
        ("synchronize", "stage2"),
    ]


def test_two_stages_on_one_stream_are_in_order_without_waiting(gpu):
    log: list[tuple[Any, ...]] = []
    runner = make_runner(two_stages(gpu, shared_stream=True, log=log), HALF, BATCH)
    runner.write(inputs())
    runner.launch()
    assert [entry for entry in log if entry[0] == "wait"] == []
    np.testing.assert_array_equal(runner.result, answers(inputs()))


def test_a_replay_gives_what_a_launch_gives_from_both_graphs_the_second_of_the_survivors(gpu):
    log: list[tuple[Any, ...]] = []
    first, second = two_stages(gpu, log=log)
    runner = make_runner((first, second), HALF, BATCH)
    runner.write(inputs())
    assert runner.capture() is None
    assert (first.captured, second.captured) == ([BATCH], [3])
    log.clear()
    runner.replay()
    runner.wait()
    np.testing.assert_array_equal(runner.result, answers(inputs()))
    assert [entry[:2] for entry in log] == [
        ("wait", "first"),
        ("replay", "stage1"),
        ("wait", "second"),
        ("read", "stage1"),
        ("replay", "stage2"),
        ("read", "stage2"),
        ("synchronize", "stage1"),
        ("synchronize", "stage2"),
    ]


@pytest.mark.parametrize("way", ["launch", "replay"])
def test_where_all_leave_the_second_stage_is_neither_captured_nor_run(gpu, way):
    log: list[tuple[Any, ...]] = []
    first, second = two_stages(gpu, log=log)
    runner = make_runner((first, second), ExitPolicy("share", 1.0), BATCH)
    runner.write(inputs())
    assert runner.capture() is None
    assert (first.captured, second.captured) == ([BATCH], [])
    getattr(runner, way)()
    np.testing.assert_array_equal(runner.result, inputs())
    assert {entry[1] for entry in log if entry[0] in ("enqueue", "replay")} == {"stage1"}


def test_why_an_exit_can_not_be_captured_is_the_thresholds_or_the_first_stage_that_refuses(gpu):
    first, second = two_stages(gpu)
    threshold = make_runner((first, second), ExitPolicy("threshold", 0.5, 0.8), BATCH)
    assert threshold.capture() == "how many samples survive a threshold is known only to the host"
    second.refuses = "stage 2 allocates"
    runner = make_runner((first, second), HALF, BATCH)
    assert (runner.capture(), first.captured) == ("stage 2 allocates", [BATCH])
    first.refuses = "stage 1 allocates"
    assert runner.capture() == "stage 1 allocates"
    assert second.captured == []


def test_poison_reaches_every_tensor_that_a_batch_writes(gpu):
    first, second = two_stages(gpu)
    runner = make_runner((first, second), HALF, BATCH)
    runner.write(inputs())
    runner.launch()
    runner.poison()
    written = (*first.output_buffers().values(), *second.output_buffers().values(), runner.result)
    assert all(tensor.isnan().all() for tensor in written)
    assert second.input_buffers()["x"].isnan().all()  # what the first stage packs for the second
    np.testing.assert_array_equal(runner.input_buffer, inputs())  # a batch reads it and does not write it


def test_a_whole_network_is_captured_and_replayed_for_its_batch_in_an_engine_with_room_for_more(gpu):
    stage = Stage("whole", {"logits": -1}, BATCH + 2, [], gpu)
    runner = make_runner((stage,), None, BATCH)
    runner.write(inputs())
    assert runner.capture() is None
    assert stage.captured == [BATCH]
    runner.poison()
    assert runner.result.shape == (BATCH, CLASSES)
    assert runner.result.isnan().all()
    runner.replay()
    np.testing.assert_array_equal(runner.result, -inputs())
    assert ("replay", "whole", BATCH) in stage.log
    stage.refuses = "the engine allocates"
    assert runner.capture() == "the engine allocates"

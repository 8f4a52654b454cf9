"""Boundaries: which of them a cell offers, what each of their clocks encloses, and no time for a wrong replay."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from simulated_gpu import COPY_MS

from harness.measure.clocks import PROBES, REPLAY_TOLERANCE, Boundaries
from harness.system.errors import CellError

BATCH = 4


class Doubler:
    """A runner on the simulated GPU that gives twice its input; times in milliseconds."""

    def __init__(self, gpu, host_ms=0.5, device_ms=2.0, uncapturable: str | None = None) -> None:
        self.stream = gpu.stream
        self.input_buffers = {"input": torch.zeros(BATCH + 2, 3)}  # room for two samples more than the batch has
        self.results = {"logits": torch.zeros(BATCH, 3)}
        self.host_ms, self.device_ms, self._uncapturable = host_ms, device_ms, uncapturable
        self.enqueued: list[str] = []
        self.on_replay = self.compute

    def compute(self) -> None:
        torch.mul(self.input_buffers["input"][:BATCH], 2, out=self.results["logits"])

    def launch(self) -> None:
        self.enqueued.append("launch")
        self.stream.enqueue(self.compute, self.host_ms, self.device_ms)

    def replay(self) -> None:
        self.enqueued.append("replay")
        self.stream.enqueue(lambda: self.on_replay(), 0.01, self.device_ms)

    def capture(self) -> str | None:
        return self._uncapturable

    def wait(self) -> None:
        self.stream.synchronize()

    def poison(self) -> None:
        self.results["logits"].fill_(float("nan"))

    def write(self, inputs) -> None:
        self.input_buffers["input"][:BATCH] = torch.from_numpy(inputs["input"])


def inputs(first: float) -> np.ndarray:
    return np.arange(first, first + BATCH * 3, dtype=np.float32).reshape(BATCH, 3)


def bounded(gpu, **options) -> tuple[Doubler, Boundaries]:
    runner = Doubler(gpu, **options)
    runner.write({"input": inputs(1.0)})
    return runner, Boundaries(runner, {"input": inputs(1.0)})


def test_a_cell_on_a_cpu_has_the_wall_alone():
    class OnCpu:
        stream = None
        launched = 0

        def launch(self) -> None:
            self.launched += 1

        def wait(self) -> None:
            pass

    boundaries = Boundaries(OnCpu(), inputs(1.0))
    assert boundaries.sustain(0.001).iterations == boundaries._runner.launched > 0
    assert (boundaries.names, boundaries.missing, boundaries.steadiest) == (("wall",), None, "wall")


def test_a_captured_cell_has_all_three_and_each_clock_encloses_what_it_says(gpu):
    _, boundaries = bounded(gpu, host_ms=0.5, device_ms=2.0)
    assert (boundaries.names, boundaries.missing) == (("device", "wall", "end_to_end"), None)
    times = boundaries.slice("device", 1, 0.05)
    assert times == pytest.approx([2.0] * len(times))
    assert boundaries.slice("wall", 1, 0.05) == pytest.approx([2.5] * 20)
    times = boundaries.slice("end_to_end", 1, 0.05)  # the copy to the device is over before the launch is
    assert times == pytest.approx([0.5 + 2.0 + COPY_MS] * len(times))


def test_device_time_is_of_replays_and_the_walls_of_launches(gpu):
    runner, boundaries = bounded(gpu, host_ms=9.0, device_ms=2.0)  # the host could not keep the device busy
    for name, ways in (("device", {"replay"}), ("wall", {"launch"}), ("end_to_end", {"launch"})):
        runner.enqueued.clear()
        assert max(boundaries.slice(name, 1, 0.02)) == pytest.approx(2.0 if name == "device" else 11.0, abs=2 * COPY_MS)
        assert set(runner.enqueued) == ways
    assert boundaries.steadiest == "device"  # what a warm-up is judged by
    runner.enqueued.clear()
    found = boundaries.sustain(0.1)
    assert found.iterations == len(runner.enqueued)
    assert found.seconds * 1e3 == pytest.approx(2.0 * found.iterations, rel=0.01)
    assert set(runner.enqueued) == {"replay"}


def test_end_to_end_takes_the_batch_from_the_host_and_brings_the_answers_back(gpu):
    runner, boundaries = bounded(gpu)
    runner.input_buffers["input"].zero_()  # what the device has is not what counts
    boundaries.slice("end_to_end", 0, 0.001)
    np.testing.assert_array_equal(boundaries._host_outputs["logits"], 2 * inputs(1.0))


def test_other_inputs_reach_every_boundary(gpu):
    runner, boundaries = bounded(gpu)
    boundaries.feed({"input": inputs(50.0)})
    boundaries.slice("wall", 0, 0.001)
    np.testing.assert_array_equal(runner.results["logits"], 2 * inputs(50.0))
    boundaries.slice("end_to_end", 0, 0.001)
    np.testing.assert_array_equal(boundaries._host_outputs["logits"], 2 * inputs(50.0))


def test_without_a_capture_events_time_the_device_where_the_queue_never_runs_dry(gpu):
    runner, boundaries = bounded(gpu, host_ms=1.8, device_ms=2.0, uncapturable="no capture")
    assert (boundaries.names, boundaries.missing) == (("device", "wall", "end_to_end"), None)
    runner.enqueued.clear()
    times = boundaries.slice("device", 1, 0.05)
    assert times == pytest.approx([2.0] * len(times))
    assert set(runner.enqueued) == {"launch"}  # there is nothing to replay


@pytest.mark.parametrize(("host_ms", "share"), [(1.94, "81%"), (2.0, "83%"), (50.0, "99%")])
def test_without_a_capture_a_host_too_slow_for_its_device_leaves_no_device_boundary_and_says_why(gpu, host_ms, share):
    runner, boundaries = bounded(gpu, host_ms=host_ms, device_ms=2.0, uncapturable="no capture")
    assert boundaries.names == ("wall", "end_to_end")
    assert boundaries.missing == f"no capture, and launching takes the host {share} of the time"
    assert boundaries.steadiest == "wall"
    runner.enqueued.clear()
    boundaries.sustain(0.1)
    assert set(runner.enqueued) == {"launch"}


def test_the_probe_begins_with_an_empty_queue_and_a_batch_that_is_not_counted(gpu):
    runner, _ = bounded(gpu, uncapturable="no capture")
    assert runner.enqueued == ["launch"] * (1 + 1 + PROBES)  # to shape the output, before the probe, and the probe


def test_a_replay_that_computes_something_else_has_no_time(gpu):
    runner = Doubler(gpu)
    runner.write({"input": inputs(1.0)})
    runner.on_replay = lambda: torch.mul(runner.input_buffers["input"][:BATCH], 2.1, out=runner.results["logits"])
    with pytest.raises(CellError, match=r"a captured graph's outputs differ from a launch's by 1\.2$"):
        Boundaries(runner, {"input": inputs(1.0)})


def test_a_replay_that_writes_nothing_into_poisoned_outputs_has_no_time(gpu):
    runner = Doubler(gpu)
    runner.write({"input": inputs(1.0)})
    runner.on_replay = lambda: None  # the last launch's answers would pass for its own
    with pytest.raises(CellError, match="outputs differ from a launch's by nan"):
        Boundaries(runner, {"input": inputs(1.0)})


@pytest.mark.parametrize(("off", "passes"), [(0.9, True), (1.1, False)])
def test_a_replay_may_round_otherwise_within_its_tolerance_of_the_largest_output(gpu, off, passes):
    runner = Doubler(gpu)
    runner.write({"input": inputs(1.0)})
    largest = 2.0 * float(inputs(1.0).max())

    def rounds_otherwise() -> None:
        runner.compute()
        runner.results["logits"][0, 0] += off * REPLAY_TOLERANCE * largest

    runner.on_replay = rounds_otherwise
    if passes:
        assert "device" in Boundaries(runner, {"input": inputs(1.0)}).names
    else:
        with pytest.raises(CellError, match="outputs differ from a launch's"):
            Boundaries(runner, {"input": inputs(1.0)})

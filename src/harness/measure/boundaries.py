"""The boundaries of a cell: what each clock encloses, and which of them this cell can offer.

`wall`: host enqueue to completion, inputs in place. `device`: the GPU's work only, captured graphs replayed back to
back between events. `end_to_end`: pinned host input, copy in, compute, copy out. On a CPU only `wall` exists.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from harness.measure.cell import SustainedLoad
from harness.measure.clocks import device_slice, sustained, timed_slice
from harness.measure.runner import Runner
from harness.system.errors import CellError

PROBES = 5  # batches to find out whether the host launches faster than the device works
LAUNCH_SHARE = 0.8  # of the device's time: below it the queue never runs dry
REPLAY_TOLERANCE = 1e-2  # of the largest output: the kernels are the same, but fp16 sums may be added in another order


class Boundaries:
    """Timed slices of one cell, by boundary."""

    def __init__(self, runner: Runner, inputs: np.ndarray) -> None:
        self._runner = runner
        self.missing: str | None = None  # why there is no device boundary
        self._enqueue: Callable[[], None] = runner.launch  # of a batch, without the host in between where that can be
        if runner.stream is None:
            self.names: tuple[str, ...] = ("wall",)
            return
        import torch

        self._host_input = torch.from_numpy(inputs).pin_memory()
        runner.launch()
        runner.wait()
        self._host_output = torch.empty_like(runner.result, device="cpu").pin_memory()
        reason = runner.capture()
        if reason is None:
            check_replay(runner)
            self._enqueue = runner.replay
        self.missing = reason and self._launches_slower(reason)
        self.names = ("wall", "end_to_end") if self.missing else ("device", "wall", "end_to_end")

    def slice(self, name: str, ramp_iterations: int, slice_s: float) -> list[float]:
        """Return the milliseconds of each iteration of one timed slice."""
        if name == "device":
            return device_slice(self._enqueue, self._runner.stream, ramp_iterations, slice_s)
        return timed_slice(self.run if name == "wall" else self._run_end_to_end, ramp_iterations, slice_s)

    def feed(self, inputs: np.ndarray) -> None:
        """Give the next slices other inputs [B, ...], in the shape and type of the first ones."""
        self._runner.write(inputs)
        if self._runner.stream is not None:
            import torch

            self._host_input.copy_(torch.from_numpy(inputs))

    @property
    def steadiest(self) -> str:
        """The boundary to judge a warm-up by: where there is a device's own clock, the host's noise is left out."""
        return "device" if "device" in self.names else "wall"

    def sustain(self, seconds: float) -> SustainedLoad:
        """Keep the device busy with batches of this cell, replayed where they can be."""
        return sustained(self._enqueue, self._runner.wait, seconds)

    def run(self) -> None:
        """Run one batch as a synchronous caller does."""
        self._runner.launch()
        self._runner.wait()

    def _run_end_to_end(self) -> None:
        import torch

        runner = self._runner
        with torch.cuda.stream(runner.stream):
            runner.input_buffer[: len(self._host_input)].copy_(self._host_input, non_blocking=True)
        runner.launch()
        with torch.cuda.stream(runner.stream):
            self._host_output.copy_(runner.result, non_blocking=True)
        runner.wait()

    def _launches_slower(self, reason: str) -> str | None:
        """Return None if events around launches time the device alone, else why they would time the host."""
        runner = self._runner
        self.run()
        started = time.perf_counter()
        for _ in range(PROBES):
            runner.launch()
        launched = time.perf_counter() - started
        runner.wait()
        done = time.perf_counter() - started
        if launched <= LAUNCH_SHARE * done:
            return None
        return f"{reason}, and launching takes the host {launched / done:.0%} of the time"


def check_replay(runner: Runner) -> None:
    """Raise CellError unless a replay into poisoned outputs gives what a launch gives: else its time means nothing.

    Where `launch` itself replays (a cell with CUDA graphs on), this only shows that all is written anew; what it
    computes is then shown by the verification, which goes through `launch`.
    """
    import torch

    with torch.inference_mode():  # what a module returned there may be written only there
        runner.launch()
        runner.wait()
        launched = runner.result.float().clone()
        runner.replay()  # from here on the buffers are the graphs' own
        runner.wait()
        runner.poison()
        torch.cuda.synchronize()
        runner.replay()
        runner.wait()
        apart = float((runner.result.float() - launched).abs().max())
        limit = REPLAY_TOLERANCE * float(launched.abs().max())
    if not apart <= limit:  # so that NaN is caught too
        raise CellError(f"a captured graph computes something else than a launch: outputs differ by {apart:.3g}")

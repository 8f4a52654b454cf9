"""The process that holds one cell: it loads, verifies, warms up and runs timed slices on command.

Between two commands it waits in a system call on its pipe: it burns no CPU and launches nothing. It ends with its
parent, whatever way that one ends.

What a cell frees stays with its process (`keep_freed_memory`). Eager PyTorch on a CPU allocates its activations anew in
every batch. With glibc's defaults some of them are given back to the kernel and faulted in again each time. How many
depends on the layout of the process's heap, which never changes: four identical DenseNet121 processes (batch 8) took 12
to 92 thousand page faults a batch, and 558 to 667 ms at equal user time (experiments/page_faults). No interval from one
restart can know that.
"""

from __future__ import annotations

import ctypes
import gc
import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.config import ProtocolConfig
from harness.engines.profiling import CellProfile
from harness.measure.ceilings import Ceilings
from harness.measure.cell import Cell, Loaded, Slice, SustainedLoad, Turn
from harness.system.errors import CellError, UserError, kind_and_first_line
from harness.system.processes import die_with_parent

if TYPE_CHECKING:
    from harness.measure.predictions import Predictions
    from harness.networks.inputs import TensorSpec

# mallopt(3)
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
TOP_PAD_BYTES = 64 * 2**20  # what the heap grows by at least


def keep_freed_memory() -> bool:
    """Tell glibc to return no memory to the kernel; return whether it was set. Elsewhere nothing happens."""
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # musl has no such thing
        return False
    accepted = [
        mallopt(_M_MMAP_MAX, 0),  # large blocks from the heap too, or each would be mapped and unmapped
        mallopt(_M_TRIM_THRESHOLD, -1),  # never shrink it
        mallopt(_M_TOP_PAD, TOP_PAD_BYTES),
    ]
    return all(accepted)


MOST_BATCHES, MOST_BYTES = 16, 256 * 2**20  # of labelled images, normalised, kept by a worker


def main(connection: Connection, cell: Cell, parent: int, commands: type[CellCommands]) -> None:
    """Serve commands `(name, argument)` until `stop`; every reply is `("ok", value)` or `("error", text)`.

    `commands` is what the worker can do: a `CellCommands`, or what a load scenario makes of it.
    """
    die_with_parent(parent)
    _quiet_thread_pools(cell.threads)
    keeps_freed_memory = keep_freed_memory() if cell.device == "cpu" else False
    with ExitStack() as stack:
        served = commands(cell, stack, keeps_freed_memory)
        while True:
            try:
                name, argument = connection.recv()
            except EOFError:
                return
            if name == "stop":
                connection.send(("ok", None))
                return
            try:
                reply = ("ok", getattr(served, name)(argument))
            except (CellError, UserError) as error:
                reply = ("error", str(error))
            except Exception as error:
                reply = ("error", kind_and_first_line(error))
            connection.send(reply)


class CellCommands:
    """The commands of one cell; each public method is one."""

    def __init__(self, cell: Cell, stack: ExitStack, keeps_freed_memory: bool) -> None:
        self._cell = cell
        self._keeps_freed_memory = keeps_freed_memory
        self._stack = stack

    def load(self, _: Any) -> Loaded:
        """Load all stages and put the inputs in place."""
        from harness.engines import get
        from harness.engines.build import check_seal
        from harness.measure.clocks import Boundaries
        from harness.measure.runner import Runner

        began = time.monotonic()
        for artifact in self._cell.artifacts:
            check_seal(artifact)
        self._executables = executables = tuple(
            self._stack.enter_context(get(artifact.plan.engine).load(artifact, self._cell.device))
            for artifact in self._cell.artifacts
        )
        self._runner = Runner(executables, self._cell.router, self._cell.batch_size)
        self._batches = [self._typed(batch) for batch in timed_batches(self._cell, executables[0].input_specs)]
        self._boundaries = Boundaries(self._runner, self._write_timed_inputs())
        proof: dict[str, str | int | float] = {}
        for number, executable in enumerate(executables, start=1):
            prefix = f"stage{number}/" if len(executables) > 1 else ""
            proof |= {prefix + name: value for name, value in executable.proof.items()}
        if self._cell.device == "cpu":
            proof["keeps_freed_memory"] = int(self._keeps_freed_memory)  # 0: page faults may tell processes apart
        counts = [executable.kernel_count() for executable in executables]
        gc.freeze()  # what is loaded stays: a collection before a slice must not walk through all of torch
        return Loaded(
            proof=proof,
            degraded=tuple(reason for executable in executables for reason in executable.degraded),
            kernels=None if None in counts else sum(c for c in counts if c is not None),
            boundaries=self._boundaries.names,
            pid=os.getpid(),
            seconds=time.monotonic() - began,
            no_device=self._boundaries.missing or "",
        )

    def _typed(self, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return inputs in the types that the first stage takes."""
        return {spec.name: batch[spec.name].astype(spec.dtype) for spec in self._executables[0].input_specs}

    def _write_timed_inputs(self) -> Mapping[str, np.ndarray]:
        self._runner.write(self._batches[0])
        return self._batches[0]

    def verify(self, inputs: Mapping[str, np.ndarray]) -> Any:
        """Compute all heads for `inputs`, then put the timed inputs back."""
        outputs = self._runner.verify(inputs)
        self._write_timed_inputs()
        return outputs

    def warm_up(self, argument: tuple[ProtocolConfig, float]) -> Any:
        """Run to the steady state."""
        from harness.measure.clocks import warm_up

        settings, min_s = argument
        for _ in range(settings.warmup_min_iterations):  # as a caller does, whatever the windows are judged by
            self._boundaries.run()
        name = self._boundaries.steadiest
        return warm_up(lambda seconds: self._boundaries.slice(name, 0, seconds), settings, min_s)

    def slice(self, turn: Turn) -> Slice:
        """Run one timed visit: a slice of each boundary."""
        if len(self._batches) > 1:
            self._boundaries.feed(self._batches[turn.batch % len(self._batches)])
        names = turn.boundaries
        return Slice({name: self._boundaries.slice(name, turn.ramp_iterations, turn.slice_s) for name in names})

    def sustain(self, seconds: float) -> SustainedLoad:
        """Keep the device busy; the coordinator reads its energy meanwhile."""
        return self._boundaries.sustain(seconds)

    def predict(self, _: Any) -> Predictions:
        """Answer all labelled images, as the engine that is timed does."""
        from harness.measure.predictions import predict

        assert self._cell.labelled is not None
        test, batch_size = self._cell.labelled.test, self._cell.batch_size
        name = self._executables[0].input_specs[0].name
        found = predict(test, batch_size, lambda images: self._runner.verify({name: images}), self._cell.router)
        self._write_timed_inputs()
        return found

    def predict_eager(self, _: Any) -> Predictions:
        """Answer the same images by the cell's network in fp32 eager; it takes memory, so nothing is timed after it."""
        from harness.measure.predictions import eager_predictions

        cell = self._cell
        assert cell.labelled is not None
        return eager_predictions(cell.recipe, cell.labelled.test, cell.batch_size, cell.device)

    def why(self, _: Any) -> CellProfile:
        """Profile a batch by part of the network; nothing may be timed in this process after it."""
        from harness.engines.profiling import take_profile

        cell = self._cell
        sizes = [cell.router.reaching(number, cell.batch_size) for number in range(len(cell.artifacts))]
        return take_profile(self._executables, cell.artifacts, sizes, cell.device)

    def ceilings(self, argument: tuple[int, int, tuple[str, ...]]) -> Ceilings:
        """Measure what the machine can at most; nothing may be timed in this process after it."""
        from harness.measure.ceilings import measure_ceilings

        cell = self._cell
        return measure_ceilings(cell.device, cell.threads, cell.artifacts[0].plan.tf32, *argument)

    def coursework(self, argument: tuple[int, int]) -> list[float]:
        """Run the usual recipe: fixed warm-ups, fixed synchronised iterations."""
        from harness.measure.clocks import counted_slice

        return counted_slice(self._boundaries.run, *argument)


def timed_batches(cell: Cell, specs: Sequence[TensorSpec]) -> list[Mapping[str, np.ndarray]]:
    """Return the batches, [B, ...] by name, that a cell is timed with in turn, the same for all cells of a quartet.

    One of made inputs; several of labelled ones, since how many go on to a later stage may depend on the images.
    """
    if cell.labelled is None:
        return [cell.made_inputs(specs, cell.batch_size, cell.input_seed)]
    (spec,) = specs
    count = max(1, min(MOST_BATCHES, MOST_BYTES // (4 * cell.batch_size * math.prod(spec.shape[1:]))))
    seeds = range(cell.input_seed, cell.input_seed + count)
    places = (cell.labelled.timed_batch(cell.batch_size, seed) for seed in seeds)
    return [{spec.name: cell.labelled.test.batch(chosen)} for chosen in places]


def _quiet_thread_pools(threads: int) -> None:
    """Make OpenMP pools sleep at once when idle, and start no pool that is not needed; must come before torch."""
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # torch's profiler, which tells a terminal that there is no GPU
    # CUPTI set up again after it was torn down has crashed beside captured graphs, and each stage is profiled
    os.environ["TEARDOWN_CUPTI"] = "0"
    os.environ["GOMP_SPINCOUNT"] = "0"
    os.environ["KMP_BLOCKTIME"] = "0"
    # Inductor would start a pool of compilers, one a core, to find everything in its cache
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
    if threads:
        os.environ["OMP_NUM_THREADS"] = str(threads)
        os.environ["MKL_NUM_THREADS"] = str(threads)

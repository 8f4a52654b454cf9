"""The one executable that all clocks look at: loaded, verified and warmed up as harness's worker does it."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from statistics import mean
from typing import Any

from harness.config import ProtocolConfig
from harness.engines import get
from harness.engines.base import Artifact, Executable
from harness.measure.cell import Cell as BuiltCell
from harness.measure.cell import Warmup
from harness.measure.clocks import Boundaries, warm_up
from harness.measure.runner import Runner
from harness.measure.verify import compare
from harness.networks.data.dataset import images


@dataclass(frozen=True)
class Cell:
    """A warm executable with our clocks on it."""

    artifact: Artifact
    executable: Executable
    runner: Runner
    boundaries: Boundaries
    enqueue: Callable[[], None]  # what our `device` boundary enqueues: captured graphs, else launches
    ramp_iterations: int
    slice_s: float
    typical_ms: Mapping[str, float]  # of one iteration, by boundary, to say how many make a slice
    warmup: Warmup

    def ours(self, boundary: str) -> Callable[[], list[float]]:
        """Return a function that takes one timed slice with harness's own clock: milliseconds by iteration."""
        return lambda: self.boundaries.slice(boundary, self.ramp_iterations, self.slice_s)

    def iterations(self, boundary: str) -> int:
        """Return how many iterations make about one slice, for clocks that are told a number and not a time."""
        return max(3, round(self.slice_s * 1e3 / self.typical_ms[boundary]))

    @property
    def stream(self) -> Any:
        """The torch stream that everything is ordered on."""
        return self.runner.stream


@contextmanager
def loaded(built: BuiltCell, settings: ProtocolConfig, slice_s: float) -> Iterator[Cell]:
    """Load a whole network, check its outputs and warm it up; raise CellError if it computes something else."""
    (artifact,) = built.artifacts  # the network is one stage
    with ExitStack() as stack:
        executable = stack.enter_context(get(artifact.plan.engine).load(artifact, built.device))
        runner = Runner((executable,), built.router, built.batch_size)
        source = executable.input_specs[0]
        timed = images(built.input_seed, built.batch_size, source.shape[1:]).astype(source.dtype)
        runner.write({"input": timed})
        boundaries = Boundaries(runner, {"input": timed})
        gc.freeze()
        outputs = runner.verify(built.expected.inputs)
        compare(outputs, built.expected, artifact.plan.arithmetic)
        runner.write({"input": timed})
        for _ in range(settings.warmup_min_iterations):
            boundaries.run()
        min_s = settings.warmup_min_s if built.device == "cuda" else 0.0
        warmup = warm_up(lambda seconds: boundaries.slice(boundaries.steadiest, 0, seconds), settings, min_s)
        typical = {name: mean(boundaries.slice(name, 1, slice_s)) for name in boundaries.names}
        yield Cell(
            artifact=artifact,
            executable=executable,
            runner=runner,
            boundaries=boundaries,
            enqueue=runner.launch if built.device == "cpu" or runner.capture() else runner.replay,
            ramp_iterations=settings.ramp_iterations,
            slice_s=slice_s,
            typical_ms=typical,
            warmup=warmup,
        )

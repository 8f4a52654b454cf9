"""ONNX Runtime's own profiler as a clock on `wall`: the same optimised model in a session that keeps a trace."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory

import numpy as np
from cell import Cell
from reading import Clock, Reading

from harness.engines.onnxruntime.runtime import provider_list, session_options
from harness.measure.clocks import timed_slice

NAME = "ONNX Runtime profiler"
AT_MOST = 200  # runs a round: the profiler keeps an event a node and stops at a million


def profiler_clock(cell: Cell) -> Clock:
    """Return the clock; both clocks look at the profiled session, so that both see what profiling costs."""

    def measure(ours_first: bool) -> list[Reading]:
        ours, theirs = profiled(cell, min(cell.slice_s, AT_MOST * cell.typical_ms["wall"] / 1e3))
        worst = max(abs(their / our - 1) for our, their in zip(ours, theirs, strict=True))
        return [Reading(NAME, "wall", "same", "mean", len(ours), mean(ours), mean(theirs), worst=worst)]

    return Clock(NAME, "wall", measure)


def profiled(cell: Cell, seconds: float) -> tuple[list[float], list[float]]:
    """Return our milliseconds of each run, and the profiler's `model_run` of the same ones."""
    import onnxruntime as ort

    if cell.stream is not None:
        raise NotImplementedError("on a GPU the profiled run ends when the work is enqueued, not when it is done")
    artifact = cell.artifact
    options = session_options(artifact.plan)
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # the saved model is optimised
    options.enable_profiling = True
    with TemporaryDirectory(prefix="agreement-") as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        path = artifact.path / artifact.main_file
        session = ort.InferenceSession(str(path), options, providers=provider_list(artifact.plan))
        binding = session.io_binding()
        for specs, buffers, bind in (
            (cell.executable.input_specs, cell.executable.input_buffers(), binding.bind_input),
            (cell.executable.output_specs, cell.executable.output_buffers(), binding.bind_output),
        ):
            for spec in specs:
                buffer = buffers[spec.name]
                bind(spec.name, "cpu", 0, np.dtype(spec.dtype), buffer.shape, buffer.ctypes.data)
        ours = timed_slice(lambda: session.run_with_iobinding(binding), cell.ramp_iterations + 1, seconds)
        events = json.loads(Path(session.end_profiling()).read_text())
    theirs = [event["dur"] / 1e3 for event in events if event["name"] == "model_run"]
    return ours, theirs[-len(ours) :]  # before them: the untimed runs

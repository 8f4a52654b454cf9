"""ONNX Runtime's own profiler: what each node of the optimised model took.

https://onnxruntime.ai/docs/performance/tune-performance/profiling-tools.html
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

import numpy as np

from harness.engines.base import Artifact
from harness.engines.onnxruntime.runtime import open_session, session_options
from harness.engines.profiling import QUIET, RUNS, UNKNOWN, CellProfile, Layer, parts_of_graph, profile_of, walk
from harness.system.errors import CellError

MOVES = ("ReorderInput", "ReorderOutput", "Cast", "Transpose", "MemcpyFromHost", "MemcpyToHost")


def profile_session(artifact: Artifact, device: str, batch_size: int, iterations: int = RUNS) -> CellProfile:
    """Run a session of its own, with its profiler on, some batches long; the timed session is left alone.

    On a GPU the profiler's node times are the host's unless kernels are reported: then those count.
    """
    import onnx
    import onnxruntime as ort

    model = onnx.load(artifact.path / artifact.main_file)
    for number, node in enumerate(model.graph.node):  # some have no name, and then the profile can't be read back
        node.name = f"{node.name or node.op_type}#{number}"
    with tempfile.TemporaryDirectory(prefix="harness-why-") as folder:
        options = session_options(artifact.plan)
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "ort")
        named = Path(folder) / "named.onnx"
        onnx.save(model, named)
        session = open_session(named, options, artifact.plan)
        feeds = {
            spec.name: np.zeros((batch_size, *spec.shape[1:]), dtype=spec.dtype) for spec in artifact.plan.graph.inputs
        }
        outputs = [spec.name for spec in artifact.plan.graph.outputs]
        walls = []
        for _ in range(2 * iterations):
            started = time.perf_counter()
            session.run(outputs, feeds)
            walls.append((time.perf_counter() - started) * 1e3)
        batch_ms = float(np.quantile(walls[iterations:], QUIET))
        events = json.loads(Path(session.end_profiling()).read_text())
    parts = walk(model.graph, parts_of_graph(artifact.plan.graph.path))
    return profile_of("onnxruntime profiler", layers(events, 2 * iterations, parts, device), batch_ms)


def layers(events: list[dict[str, object]], runs: int, parts: dict[str, str], device: str) -> list[Layer]:
    """Return the nodes of a profile in the order they ran, each its lower quartile over the runs.

    `events` is the profiler's JSON: a complete event a node and run, `cat` Node, `dur` in microseconds, named
    NODE_kernel_time; on CUDA each kernel too, `cat` Kernel, with its node as the argument `op_name`'s parent.

    Raises:
        CellError: the cell ran on a GPU and no kernel of it was recorded, as with the published packages.

    """
    times: dict[str, list[float]] = {}
    kinds: dict[str, str] = {}
    kernels = [event for event in events if event.get("cat") == "Kernel"]
    if device == "cuda" and not kernels:
        raise CellError("this ONNX Runtime reports no kernels of the GPU, only the host's time at each node")
    nodes = [
        event for event in events if event.get("cat") == "Node" and str(event.get("name", "")).endswith("_kernel_time")
    ]
    for event in kernels if device == "cuda" else nodes:
        arguments = event.get("args") or {}
        assert isinstance(arguments, dict)
        name = str(arguments.get("parent_name") or event["name"]).removesuffix("_kernel_time")
        key = name or f"{arguments.get('op_name')} {arguments.get('node_index')}"
        times.setdefault(key, []).append(float(str(event["dur"])) / 1e3)
        kinds[key] = str(arguments.get("op_name", ""))
    per_run = {name: max(1, round(len(found) / runs)) for name, found in times.items()}
    return [
        Layer(name, parts.get(name, UNKNOWN), float(np.quantile(found, QUIET)) * per_run[name], kinds[name] in MOVES)
        for name, found in times.items()
    ]

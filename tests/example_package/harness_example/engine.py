"""An engine: an exported graph computed node by node in numpy, with an option, two precisions and a profiler."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.config import EngineOption, at_least
from harness.engines.base import Artifact, BuildPlan, Engine, Executable
from harness.techniques.hw.fp16 import FP16
from harness.techniques.levels import FP32, Capabilities

if TYPE_CHECKING:
    from harness.engines.profiling import CellProfile

MODEL_FILE = "graph.onnx"


class NodeByNode(Engine):
    """onnx's reference implementation of every operation, behind the engine contract."""

    name = "node_by_node"
    capabilities = Capabilities((FP32, FP16), fuses=False)
    options = (EngineOption("node_repeats", int, "how often each node is computed", 1, at_least(1)),)

    def version(self) -> str:
        """Return onnx's version."""
        return version("onnx")

    def build(self, plan: BuildPlan, workdir: Path) -> Artifact:
        """Keep the graph as it was exported."""
        size_mb = Path(shutil.copyfile(plan.graph.path, workdir / MODEL_FILE)).stat().st_size / 1e6
        proof = {"nodes": plan.graph.nodes, "precision_in_use": plan.precision.name, **dict(plan.options)}
        return Artifact(plan, workdir, MODEL_FILE, self.version(), size_mb, proof)

    def load(self, artifact: Artifact, device: str) -> Executable:
        """Return the executable."""
        return Nodes(artifact)

    def profile(self, executable: Any, artifact: Artifact, device: str, batch_size: int) -> CellProfile:
        """Time each node of one batch, after one without a clock."""
        from harness.engines.profiling import UNKNOWN, Layer, parts_of_graph, profile_of

        executable.enqueue(batch_size)
        started = time.perf_counter()
        executable.enqueue(batch_size)
        batch_ms = (time.perf_counter() - started) * 1e3
        parts = parts_of_graph(artifact.plan.graph.path)
        layers = [Layer(name, parts.get(name, UNKNOWN), ms) for name, ms in executable.node_ms]
        return profile_of("node by node", layers, batch_ms)


class Nodes:
    """A loaded graph; its buffers are numpy arrays, allocated on entry."""

    proof: Mapping[str, str | int | float] = MappingProxyType({})
    degraded: tuple[str, ...] = ()
    stream = None

    def __init__(self, artifact: Artifact) -> None:
        self._artifact, self._plan = artifact, artifact.plan
        self.input_specs, self.output_specs = artifact.plan.graph.inputs, artifact.plan.graph.outputs
        self.node_ms: list[tuple[str, float]] = []  # of the last batch

    def __enter__(self) -> Nodes:
        """Read the graph, allocate the buffers."""
        import onnx
        from onnx.reference import ReferenceEvaluator

        model = onnx.load(self._artifact.path / MODEL_FILE)
        opsets = {entry.domain: entry.version for entry in model.opset_import}
        self._nodes = [(node, ReferenceEvaluator(node, opsets=opsets)) for node in model.graph.node]
        self._weights = {weight.name: onnx.numpy_helper.to_array(weight) for weight in model.graph.initializer}
        self._inputs, self._outputs = (
            {one.name: np.zeros((self._plan.batch.max_size, *one.shape[1:]), one.dtype) for one in specs}
            for specs in (self.input_specs, self.output_specs)
        )
        return self

    def __exit__(self, *_: object) -> None:
        """Drop graph and buffers."""
        self._nodes, self._weights, self._inputs, self._outputs = [], {}, {}, {}

    def input_buffers(self) -> Mapping[str, Any]:
        """Return the inputs, [max batch, ...]."""
        return self._inputs

    def output_buffers(self) -> Mapping[str, Any]:
        """Return the outputs, [max batch, ...]."""
        return self._outputs

    def write_inputs(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Copy into the leading part of the inputs."""
        for name, array in arrays.items():
            self._inputs[name][: len(array)] = array

    def poison_outputs(self) -> None:
        """Fill the outputs with NaN."""
        for buffer in self._outputs.values():
            buffer.fill(np.nan)

    def enqueue(self, batch_size: int | None = None) -> None:
        """Compute the first samples; returns when that is done."""
        size = batch_size or self._plan.batch.opt_size
        values = self._weights | {name: buffer[:size] for name, buffer in self._inputs.items()}
        self.node_ms = []
        for node, evaluator in self._nodes:
            started = time.perf_counter()
            for _ in range(int(dict(self._plan.options)["node_repeats"])):
                found = evaluator.run(None, {name: values[name] for name in node.input if name})
            values |= dict(zip(node.output, found, strict=True))
            self.node_ms.append((node.name, (time.perf_counter() - started) * 1e3))
        for name, buffer in self._outputs.items():
            buffer[:size] = values[name]

    def synchronize(self) -> None:
        """Return at once: nothing runs behind our back."""

    def outputs(self, batch_size: int | None = None) -> dict[str, np.ndarray]:
        """Return copies of the outputs."""
        return {
            name: buffer[: batch_size or self._plan.batch.opt_size].copy() for name, buffer in self._outputs.items()
        }

    def capture(self, batch_size: int) -> str | None:
        """Return why nothing is captured."""
        return "numpy has no CUDA graphs"

    def replay(self, batch_size: int) -> None:
        """Never called: nothing was captured."""

    def kernel_count(self) -> int | None:
        """Return the nodes of the graph."""
        return len(self._nodes)


ENGINE = NodeByNode()

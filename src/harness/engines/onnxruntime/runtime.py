"""Run: a saved optimised model with its inputs and outputs bound once to buffers of our own.

Building needs a session too: its options and execution providers are first here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from harness.engines.base import Artifact, BuildPlan, load_graph
from harness.engines.cuda_graphs import kernel_nodes, process_stream, try_record
from harness.networks.inputs import TensorSpec
from harness.system.errors import CellError, first_line
from harness.techniques.hw.int8 import INT8_AFFINE
from harness.techniques.levels import check_batch

if TYPE_CHECKING:
    import onnxruntime

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def providers_of(plan: BuildPlan) -> tuple[str, ...]:
    """Return the execution providers a plan asks for, in order: its own option, else by device."""
    requested = dict(plan.options).get("providers")
    return tuple(str(requested).split(",")) if requested else (PROVIDERS[plan.device],)


def open_session(
    path: Path,
    options: onnxruntime.SessionOptions,
    plan: BuildPlan,
    stream: Any = None,
    without: Sequence[str] = (),
) -> Any:
    """Return the session of a model on the plan's providers; raise CellError with the reason why there is none.

    `without` names passes of the optimiser that are left out.
    ONNX Runtime falls back to the CPU silently, so the provider in use is compared with the requested one.
    """
    import onnxruntime as ort

    requested = provider_list(plan, stream)
    if plan.device == "cuda":
        # cuDNN's front end logs every plan that it tries in vain; what fails in the end is raised all the same
        ort.set_default_logger_severity(4)
        if hasattr(ort, "preload_dlls"):
            ort.preload_dlls()  # CUDA and cuDNN from wherever pip or torch put them; without it they may not be found
    try:
        load_graph(path)
        session = ort.InferenceSession(
            str(path), options, providers=requested, disabled_optimizers=list(without) or None
        )
    except Exception as error:
        raise CellError(f"onnxruntime could not load: {first_line(error)}") from error
    expected = requested[0] if isinstance(requested[0], str) else requested[0][0]
    in_use = session.get_providers()[0]
    if in_use != expected:
        raise CellError(f"onnxruntime fell back to {in_use}: {expected} could not be initialised here")
    return session


def session_options(plan: BuildPlan) -> onnxruntime.SessionOptions:
    """Return the options that building and loading share: one thread pool that never spins, no chatter."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4  # fatal only: a warning a node about layouts would drown the table
    options.intra_op_num_threads = int(dict(plan.options).get("threads", 0))
    options.inter_op_num_threads = 1
    # a waiting worker must burn no CPU, or it would disturb the one that is being timed
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    if plan.precision == INT8_AFFINE and not has_vnni():
        options.add_session_config_entry("session.x64quantprecision", "1")  # else sums of two products saturate
    return options


def provider_list(plan: BuildPlan, stream: Any = None) -> list[str | tuple[str, dict[str, str]]]:
    """Return the plan's providers with the options each one gets; `stream` is a torch CUDA stream to run on."""
    out: list[str | tuple[str, dict[str, str]]] = []
    for name in providers_of(plan):
        if name == "CUDAExecutionProvider":
            options = {
                "use_tf32": str(int(plan.tf32)),
                "prefer_nhwc": str(int(bool(dict(plan.options).get("channels_last")))),
            }
            if stream is not None:
                options["user_compute_stream"] = str(stream.cuda_stream)
            out.append((name, options))
        else:
            out.append(name)
    return out


@cache
def has_vnni() -> bool:
    """Return whether this processor has dot products of eight bits, or is not an x86."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return True
    return "vnni" in text or "flags" not in text


class OnnxRuntimeExecutable:
    """An ONNX Runtime session with I/O binding; buffers are numpy arrays (CPU) or torch tensors (CUDA)."""

    def __init__(self, artifact: Artifact, device: str) -> None:
        self._artifact = artifact
        self._plan = artifact.plan
        self._device = device
        self.input_specs: tuple[TensorSpec, ...] = artifact.plan.graph.inputs
        self.output_specs: tuple[TensorSpec, ...] = artifact.plan.graph.outputs
        self.proof: Mapping[str, str | int | float] = {}
        self.degraded: tuple[str, ...] = ()
        self.stream: Any = None

    def __enter__(self) -> Self:
        """Create the session, check the provider in use, allocate and bind the buffers."""
        import onnxruntime as ort

        options = session_options(self._plan)
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        path = self._artifact.path / self._artifact.main_file
        if self._device == "cuda":
            self.stream = process_stream()
        self._session = open_session(path, options, self._plan, self.stream)
        in_use = self._session.get_providers()
        self.proof = {"provider": in_use[0], "threads": int(dict(self._plan.options).get("threads", 0))}
        if self._plan.precision == INT8_AFFINE:
            self.proof = {**self.proof, "vnni": int(has_vnni())}  # 0: eight bits pay little here, and are made exact
        self._inputs = {spec.name: self._allocate(spec) for spec in self.input_specs}
        self._outputs = {spec.name: self._allocate(spec) for spec in self.output_specs}
        self._bindings: dict[int, ort.IOBinding] = {}
        self._graphs: dict[int, Any] = {}
        self._run_options = ort.RunOptions()
        if self._device == "cuda":
            self._run_options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        if self._plan.cuda_graph:
            reason = self.capture(self._plan.batch.opt_size)
            if reason is not None:
                self.degraded = (*self.degraded, f"no CUDA graph: {reason}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drop graphs, bindings, buffers and session, in this order."""
        self._graphs.clear()
        self._bindings.clear()
        self._inputs, self._outputs = {}, {}
        del self._session

    def _allocate(self, spec: TensorSpec) -> Any:
        shape = (self._plan.batch.max_size, *spec.shape[1:])
        if self._device == "cpu":
            return np.zeros(shape, dtype=spec.dtype)
        import torch

        return torch.zeros(shape, dtype=getattr(torch, spec.dtype), device=self._device)

    def _binding(self, batch_size: int) -> Any:
        if batch_size not in self._bindings:
            check_batch(batch_size, self._plan.batch)  # beyond the buffers lies somebody else's memory
            binding = self._session.io_binding()
            for specs, buffers, bind in (
                (self.input_specs, self._inputs, binding.bind_input),
                (self.output_specs, self._outputs, binding.bind_output),
            ):
                for spec in specs:
                    buffer = buffers[spec.name]
                    pointer = buffer.ctypes.data if self._device == "cpu" else buffer.data_ptr()
                    shape = (batch_size, *spec.shape[1:])
                    bind(spec.name, self._device, 0, np.dtype(spec.dtype), shape, pointer)
            self._bindings[batch_size] = binding
        return self._bindings[batch_size]

    def input_buffers(self) -> Mapping[str, Any]:
        """Return the bound inputs, [max batch, ...]."""
        return self._inputs

    def output_buffers(self) -> Mapping[str, Any]:
        """Return the bound outputs, [max batch, ...]."""
        return self._outputs

    def write_inputs(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Copy host arrays into the leading part of the input buffers."""
        for name, array in arrays.items():
            if self._device == "cpu":
                np.copyto(self._inputs[name][: len(array)], array, casting="same_kind")
            else:
                import torch

                self._inputs[name][: len(array)].copy_(torch.from_numpy(array))

    def poison_outputs(self) -> None:
        """Fill the outputs with NaN."""
        for buffer in self._outputs.values():
            buffer.fill(np.nan) if self._device == "cpu" else buffer.fill_(float("nan"))

    def enqueue(self, batch_size: int | None = None) -> None:
        """Run the first `batch_size` samples: replayed where that size was captured, else launched by the host."""
        size = batch_size or self._plan.batch.opt_size
        if size in self._graphs and self._plan.cuda_graph:
            self.replay(size)
        else:
            self._launch(size)

    def _launch(self, size: int) -> None:
        self._session.run_with_iobinding(self._binding(size), self._run_options)

    def synchronize(self) -> None:
        """Wait for the device; a CPU session has returned only when it is done."""
        if self.stream is not None:
            self.stream.synchronize()

    def outputs(self, batch_size: int | None = None) -> dict[str, np.ndarray]:
        """Return host copies of the outputs."""
        size = batch_size or self._plan.batch.opt_size
        if self._device == "cpu":
            return {name: buffer[:size].copy() for name, buffer in self._outputs.items()}
        return {name: buffer[:size].cpu().numpy() for name, buffer in self._outputs.items()}

    def capture(self, batch_size: int) -> str | None:
        """Capture one batch as a CUDA graph; return None, or the reason why that can't be done.

        ONNX Runtime can keep a graph to itself (`enable_cuda_graph`), but waits for it after each replay; a capture of
        our own around a run on our stream is replayed without waiting, like every other engine's.
        """
        if batch_size in self._graphs:
            return None
        found = try_record(self.stream, lambda: self._launch(batch_size))
        if isinstance(found, str):
            return found
        self._graphs[batch_size] = found[0]
        self.proof = {**self.proof, "captured": 1}
        return None

    def replay(self, batch_size: int) -> None:
        """Enqueue the captured graph of `batch_size` samples."""
        self._graphs[batch_size].replay()

    def kernel_count(self) -> int | None:
        """Return the kernels of a captured batch; on a CPU the nodes of the graph; None on a GPU without a capture."""
        captured = next(iter(self._graphs.values()), None)
        if captured is not None:
            return kernel_nodes(captured)
        return int(self._artifact.proof["nodes"]) if self._device == "cpu" else None

"""Run one stage of a network as a PyTorch module: eager as it is, or what a compiler made of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

import ml_dtypes  # teaches numpy the name "bfloat16"
import numpy as np
import torch

from harness.engines.base import Artifact
from harness.engines.cuda_graphs import kernel_nodes, process_stream, try_record
from harness.engines.eager.rebuild import rebuilt_stage
from harness.networks.inputs import TensorSpec
from harness.techniques.levels import BatchProfile, check_batch

_BF16 = np.dtype(ml_dtypes.bfloat16)


def as_array(tensor: torch.Tensor) -> np.ndarray:
    """Return a view of a tensor on the host; of bfloat16, which torch gives numpy no array of, by its bits."""
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.uint16).numpy().view(_BF16)
    array: np.ndarray = tensor.numpy()
    return array


def as_tensor(array: np.ndarray) -> torch.Tensor:
    """Return a tensor over the memory of an array, the other way round."""
    if array.dtype == _BF16:
        return torch.from_numpy(array.view(np.uint16)).view(torch.bfloat16)
    return torch.from_numpy(array)


Transform = Callable[[torch.nn.Module], Callable[..., Any]]


class ModuleExecutable:
    """A module with static input tensors; its outputs are whatever the last call returned.

    `transform` makes of the module what is called instead (a compiler's result); None calls the module itself.
    """

    def __init__(self, artifact: Artifact, device: str, transform: Transform | None = None) -> None:
        self._transform = transform
        self._artifact = artifact
        self._plan = artifact.plan
        self._device = device
        self.input_specs: tuple[TensorSpec, ...] = artifact.plan.graph.inputs
        self.output_specs: tuple[TensorSpec, ...] = artifact.plan.graph.outputs
        self.proof: Mapping[str, str | int | float] = {}
        self.degraded: tuple[str, ...] = ()
        self.stream: Any = None

    def __enter__(self) -> Self:
        """Rebuild the module, check that its weights are the exported ones, move it, allocate the inputs."""
        threads = int(dict(self._plan.options).get("threads", 0))
        if threads:
            torch.set_num_threads(threads)
        torch.backends.cuda.matmul.allow_tf32 = self._plan.tf32
        torch.backends.cudnn.allow_tf32 = self._plan.tf32
        options = dict(self._plan.options)
        if self._device == "cuda":
            self.stream = process_stream()
            torch.backends.cudnn.benchmark = bool(options.get("cudnn_benchmark"))
        self._stage = rebuilt_stage(self._artifact)
        self._module = self._stage.module.to(self._device)
        self._compute_dtype = getattr(torch, self._plan.precision.dtype)
        self._module = self._module.to(self._compute_dtype)
        if options.get("channels_last"):
            self._module = self._module.to(memory_format=torch.channels_last)
        self._inputs = {
            spec.name: torch.zeros(
                self._plan.batch.max_size, *spec.shape[1:], dtype=getattr(torch, spec.dtype), device=self._device
            )
            for spec in self.input_specs
        }
        self._outputs: dict[str, torch.Tensor] = {}
        self._call: Callable[..., Any] = self._module if self._transform is None else self._transform(self._module)
        self._graphs: dict[int, tuple[torch.cuda.CUDAGraph, dict[str, torch.Tensor]]] = {}
        self.proof = {
            "threads": torch.get_num_threads(),
            "tf32": int(self._plan.tf32),
            "layout": "channels_last" if options.get("channels_last") else "contiguous",
            "cudnn_benchmark": int(bool(options.get("cudnn_benchmark"))),
            "parameter_dtype": next((str(p.dtype) for p in self._module.parameters()), "none").removeprefix("torch."),
        }
        if self._plan.cuda_graph:
            reason = self.capture(self._plan.batch.opt_size)
            if reason is not None:
                self.degraded = (*self.degraded, f"no CUDA graph: {reason}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free graphs, module and buffers."""
        self._graphs = {}
        del self._call, self._stage
        self._inputs, self._outputs = {}, {}
        del self._module

    @property
    def module(self) -> torch.nn.Module:
        """The stage as it runs: moved, in its precision, changed by the transform."""
        return self._module

    def input_buffers(self) -> Mapping[str, Any]:
        """Return the inputs, [max batch, ...]: numpy views of the tensors on a CPU."""
        return {name: self._view(tensor) for name, tensor in self._inputs.items()}

    def output_buffers(self) -> Mapping[str, Any]:
        """Return the outputs of the last call, [batch, ...]; eager allocates them anew each time."""
        return {name: self._view(tensor) for name, tensor in self._outputs.items()}

    def _view(self, tensor: torch.Tensor) -> Any:
        return as_array(tensor) if self._device == "cpu" else tensor

    def write_inputs(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Copy host arrays into the leading part of the inputs."""
        for name, array in arrays.items():
            self._inputs[name][: len(array)].copy_(as_tensor(array))

    def poison_outputs(self) -> None:
        """Forget the last outputs: what is read next was written next."""
        self._outputs = {}

    def enqueue(self, batch_size: int | None = None) -> None:
        """Run the first `batch_size` samples: replayed where that size was captured, else launched by the host."""
        size = batch_size or self._plan.batch.opt_size
        if size in self._graphs and self._plan.cuda_graph:
            self.replay(size)
        else:
            self.launch(size)

    def launch(self, batch_size: int) -> None:
        """Run the first `batch_size` samples launched by the host, whatever was captured: a profiler sees who did."""
        self._outputs = self._launch(batch_size)

    def replay(self, batch_size: int) -> None:
        """Enqueue the captured graph of `batch_size` samples."""
        graph, self._outputs = self._graphs[batch_size]
        graph.replay()

    def _launch(self, size: int) -> dict[str, torch.Tensor]:
        check_batch(size, BatchProfile(1, 1, self._plan.batch.max_size))  # a module takes every size there is room for
        with torch.inference_mode():
            results = self._stage.run([self._cast(tensor[:size]) for tensor in self._inputs.values()], self._call)
            return {spec.name: results[spec.name].to(getattr(torch, spec.dtype)) for spec in self.output_specs}

    def _cast(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return numbers in the precision of the plan; what counts or chooses stays as it is."""
        return tensor.to(self._compute_dtype) if tensor.is_floating_point() else tensor

    def capture(self, batch_size: int) -> str | None:
        """Capture one batch as a CUDA graph; return None, or the reason why that can't be done."""
        if batch_size in self._graphs:
            return None
        found = try_record(self.stream, lambda: self._launch(batch_size))
        if isinstance(found, str):
            return found
        self._graphs[batch_size] = found
        self.proof = {**self.proof, "captured": 1}
        return None

    def synchronize(self) -> None:
        """Wait for the device; a CPU call has returned only when it is done."""
        if self.stream is not None:
            self.stream.synchronize()

    def outputs(self, batch_size: int | None = None) -> dict[str, np.ndarray]:
        """Return host copies of the outputs."""
        return {name: as_array(tensor.cpu()).copy() for name, tensor in self._outputs.items()}

    def kernel_count(self) -> int | None:
        """Return the kernels of a captured batch; None where none was captured: counting launches takes a profiler."""
        captured = next(iter(self._graphs.values()), None)
        return None if captured is None else kernel_nodes(captured[0])

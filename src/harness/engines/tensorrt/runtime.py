"""A loaded engine that runs batches: it owns the buffers and one bound context per batch size."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

import numpy as np

from harness.engines.base import Artifact
from harness.engines.cuda_graphs import process_stream
from harness.engines.tensorrt.context import BoundContext
from harness.engines.tensorrt.cuda import Buffers
from harness.engines.tensorrt.flavour import Flavour, local_gpu
from harness.engines.tensorrt.loading import channels_last, check_fits, check_interface, deserialise, logger_of
from harness.engines.tensorrt.profiles import choose, profiles_of
from harness.networks.inputs import TensorSpec
from harness.system.errors import CellError
from harness.techniques.levels import check_batch


class TensorRtExecutable:
    """The contract's executable. Everything is allocated on entry and freed on exit, also when entry fails."""

    def __init__(self, flavour: Flavour, artifact: Artifact, device: str) -> None:
        if device != "cuda":
            raise CellError(f"{flavour.name} runs on NVIDIA GPUs only, not on device={device}")
        self._flavour = flavour
        self._artifact = artifact
        self._batch = artifact.plan.batch
        self._profiles = profiles_of(artifact.plan)
        self.input_specs: tuple[TensorSpec, ...] = artifact.plan.graph.inputs
        self.output_specs: tuple[TensorSpec, ...] = artifact.plan.graph.outputs
        self.proof: Mapping[str, str | int | float] = dict(artifact.proof)
        self.degraded: tuple[str, ...] = artifact.degraded
        self._contexts: dict[int, BoundContext] = {}

    def __enter__(self) -> Self:
        """Load, allocate, and prepare the profile's `opt_size`; raise CellError."""
        check_fits(self._flavour, self._artifact, local_gpu())
        with ExitStack() as stack:
            try:
                self._open(stack)
            except CellError:
                raise
            except Exception as error:  # torch, cuda-python and the bindings each have their own
                raise CellError(f"{self._flavour.name} could not load: {error}") from error
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free everything, in the opposite order of its making."""
        self._stack.close()

    def _open(self, stack: ExitStack) -> None:
        import torch

        self._errors = stack.enter_context(logger_of(self._flavour)[1].watch())
        index = torch.cuda.current_device()
        # The process's stream, which is never closed: torch records an event on it whenever it takes pinned memory
        # back, and others may hold such memory for longer than this executable is open.
        self.stream = process_stream()
        self._handle = int(self.stream.cuda_stream)
        stack.callback(self._drop)
        serialised = (self._artifact.path / self._artifact.main_file).read_bytes()
        self._runtime, self._engine = deserialise(self._flavour, serialised, self._errors)
        check_interface(self._flavour, self._engine, self.input_specs + self.output_specs, len(self._profiles))
        nhwc = channels_last(self._flavour, self._engine)
        self._inputs = Buffers(self.input_specs, self._batch.max_size, index, nhwc)
        self._outputs = Buffers(self.output_specs, self._batch.max_size, index, nhwc)
        scratch_bytes = max(int(self._engine.device_memory_size_v2), 256)
        self._scratch = torch.empty(scratch_bytes, dtype=torch.uint8, device=f"cuda:{index}")
        stack.callback(self._close_contexts)  # runs first: contexts before engine and buffers
        bound = self._bound(self._batch.opt_size)
        self.proof = {
            **self._artifact.proof,
            "engine_layers": int(self._engine.num_layers),
            "scratch_mb": scratch_bytes / 1e6,
            "captured": int(bound.graph is not None),
            "channels_last": ", ".join(sorted(nhwc)),
        }

    def _bound(self, batch_size: int) -> BoundContext:
        """Return the context of a batch size, made, run once and captured on first use."""
        if batch_size in self._contexts:
            return self._contexts[batch_size]
        check_batch(batch_size, self._batch)
        bound = BoundContext(self._flavour, self._engine, self._handle, self._errors)
        profile = choose(self._profiles, batch_size)
        bound.bind(self._inputs.device, self._outputs.device, batch_size, self._scratch, profile)
        bound.enqueue()  # deferred set-up and TensorRT-RTX's compilation happen here, not in a timed run
        self.synchronize()
        self._contexts[batch_size] = bound
        if self._artifact.plan.cuda_graph:
            try:
                bound.graph = bound.record()
            except CellError as error:
                self.degraded = (*self.degraded, f"no CUDA graph at batch size {batch_size}: {error}")
        return bound

    def _close_contexts(self) -> None:
        self.synchronize()
        for bound in self._contexts.values():
            bound.close()
        self._contexts.clear()

    def _drop(self) -> None:
        for name in ("_scratch", "_inputs", "_outputs", "_engine", "_runtime"):
            self.__dict__.pop(name, None)  # the engine before the runtime that made it

    def input_buffers(self) -> Mapping[str, Any]:
        """Return the bound inputs: torch CUDA tensors, [max batch, ...]."""
        return self._inputs.device

    def output_buffers(self) -> Mapping[str, Any]:
        """Return the bound outputs: torch CUDA tensors, [max batch, ...]."""
        return self._outputs.device

    def write_inputs(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Copy host arrays into the first samples of the inputs, through pinned memory."""
        self._inputs.write(arrays, self.stream)

    def poison_outputs(self) -> None:
        """Fill the outputs with NaN."""
        self._outputs.fill(float("nan"), self.stream)

    def enqueue(self, batch_size: int | None = None) -> None:
        """Run the first `batch_size` samples; returns early. A new batch size is prepared and waited for first."""
        size = batch_size or self._batch.opt_size
        bound = self._contexts.get(size) or self._bound(size)
        if bound.graph is not None and self._artifact.plan.cuda_graph:
            bound.replay()
        else:
            bound.enqueue()

    def capture(self, batch_size: int) -> str | None:
        """Capture one batch for `replay`; return None, or the reason why TensorRT can't."""
        bound = self._bound(batch_size)
        if bound.graph is None:
            self.synchronize()
            try:
                bound.graph = bound.record()
            except CellError as error:
                return str(error)
        return None

    def replay(self, batch_size: int) -> None:
        """Enqueue the captured graph of `batch_size` samples."""
        self._contexts[batch_size].replay()

    def synchronize(self) -> None:
        """Wait for this executable's stream."""
        self.stream.synchronize()

    def outputs(self, batch_size: int | None = None) -> dict[str, np.ndarray]:
        """Return host copies of the outputs of the first `batch_size` samples."""
        return self._outputs.read(batch_size or self._batch.opt_size, self.stream)

    def layer_times_ms(self, batch_size: int, runs: int) -> tuple[dict[str, float], float]:
        """Return each layer's mean milliseconds under TensorRT's profiler, and those of a batch without it."""
        bound = self._bound(batch_size)
        self.synchronize()
        started = time.perf_counter()
        bound.enqueue()
        self.synchronize()
        batch_ms = (time.perf_counter() - started) * 1e3
        times_ms: dict[str, float] = {}
        bound.profile_layers(times_ms)
        for _ in range(runs):
            bound.enqueue()
            self.synchronize()
        return {name: total / runs for name, total in times_ms.items()}, batch_ms

    def kernel_count(self) -> int | None:
        """Return the kernel nodes of one captured run at `opt_size`; None if a run can't be captured.

        Without `cuda_graph` a run is captured for the count alone, so that both levels of `fusion` can be compared.
        """
        bound = self._bound(self._batch.opt_size)
        if bound.graph is not None:
            return bound.graph.kernels
        try:
            self.synchronize()
            graph = bound.record()
        except CellError:
            return None
        graph.close()
        return graph.kernels

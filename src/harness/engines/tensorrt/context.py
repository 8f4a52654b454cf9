"""One batch size of a loaded engine: a TensorRT context bound to its buffers, and its captured graph.

A captured graph belongs to the shapes that its context had at capture, so every batch size has a context of its own
(NVIDIA TensorRT documentation, "Optimizing TensorRT Performance", CUDA Graphs). They share one scratch memory,
because they run one after another on one stream.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from harness.engines.tensorrt.cuda import CapturedGraph, capture
from harness.engines.tensorrt.flavour import Flavour
from harness.engines.tensorrt.loading import tail
from harness.system.errors import CellError


def collector(trt: Any, times_ms: dict[str, float]) -> Any:
    """Return a profiler to set on an execution context: it adds up each layer's milliseconds in `times_ms`."""
    base: Any = trt.IProfiler

    class Collector(base):  # type: ignore[misc]  # a class that is known once TensorRT is loaded
        def __init__(self) -> None:
            base.__init__(self)

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            times_ms[layer_name] = times_ms.get(layer_name, 0.0) + ms

    return Collector()


class BoundContext:
    """A context whose shapes and addresses are set once; `enqueue` changes nothing."""

    def __init__(self, flavour: Flavour, engine: Any, stream_handle: int, errors: list[str]) -> None:
        self._flavour = flavour
        self._stream = stream_handle
        self._errors = errors
        self.graph: CapturedGraph | None = None
        context = create_context(flavour, engine)
        if context is None:
            raise CellError(f"{flavour.name} could not create an execution context: {tail(errors)}")
        self._context = context

    def bind(
        self, inputs: Mapping[str, Any], outputs: Mapping[str, Any], batch_size: int, scratch: Any, profile: int = 0
    ) -> None:
        """Fix profile, shapes (the buffers' own, with `batch_size` first), addresses, scratch; raise CellError.

        Contexts of several batch sizes share a profile, as any number may since TensorRT 10.
        """
        context = self._context
        self._must(f"selecting profile {profile}", context.set_optimization_profile_async, profile, self._stream)
        for name, tensor in inputs.items():
            shape = (batch_size, *tensor.shape[1:])
            self._must(f"setting {name} to {shape}", context.set_input_shape, name, shape)
        for name, tensor in {**inputs, **outputs}.items():
            self._must(f"binding {name}", context.set_tensor_address, name, tensor.data_ptr())
        context.set_device_memory(scratch.data_ptr(), scratch.numel())

    def enqueue(self) -> None:
        """Run once on the stream, every kernel launched by the host."""
        self._must("execution", self._context.execute_async_v3, self._stream)

    def profile_layers(self, times_ms: dict[str, float]) -> None:
        """Have every later `enqueue` add each layer's milliseconds to `times_ms`; nothing may be timed after it."""
        self._context.profiler = collector(self._flavour.module(), times_ms)

    def replay(self) -> None:
        """Run the captured graph once on the stream."""
        assert self.graph is not None
        self.graph.launch()

    def record(self) -> CapturedGraph:
        """Capture one run. The context must have run once with these shapes, so that nothing is set up inside."""
        if self._flavour.user_allocation_for_capture and not self._context.is_stream_capturable(self._stream):
            raise CellError(f"{self._flavour.name} says this engine can't be captured on a stream")
        return capture(self._stream, self.enqueue)

    def close(self) -> None:
        """Free the graph, then the context; the stream must be idle."""
        if self.graph is not None:
            self.graph.close()
            self.graph = None
        del self._context

    def _must(self, what: str, call: Callable[..., bool], *arguments: Any) -> None:
        try:
            done = call(*arguments)
        except RuntimeError:  # some of the bindings raise what others return as False
            done = False
        if not done:
            raise CellError(f"{self._flavour.name}: {what} failed: {tail(self._errors)}")


def create_context(flavour: Flavour, engine: Any) -> Any:
    """Return an execution context that uses our scratch memory.

    TensorRT-RTX would compile kernels for a new shape in the background while slower general ones run: EAGER compiles
    them at the first run, so that neither a capture nor a timed slice sees the stand-ins. Its own CUDA graphs stay off:
    capture is this harness's, the same for every engine.
    """
    trt = flavour.module()
    strategy = trt.ExecutionContextAllocationStrategy.USER_MANAGED
    if not flavour.kernels_compiled_at_run:
        return engine.create_execution_context(strategy)
    runtime_config = engine.create_runtime_config()
    runtime_config.set_execution_context_allocation_strategy(strategy)
    runtime_config.dynamic_shapes_kernel_specialization_strategy = trt.DynamicShapesKernelSpecializationStrategy.EAGER
    runtime_config.cuda_graph_strategy = trt.CudaGraphStrategy.DISABLED
    return engine.create_execution_context(runtime_config)

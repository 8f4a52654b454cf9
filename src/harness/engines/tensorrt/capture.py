"""CUDA graphs captured through `cuda.bindings`, the C API one to one (CUDA Runtime API, "Graph Management").

Not through torch: where a capture fails, as it may for any network, torch's allocator stays in its capturing state.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness.system.counts import counted
from harness.system.errors import CellError


class CapturedGraph:
    """A captured and instantiated CUDA graph; `close` frees it."""

    def __init__(self, graph: Any, stream_handle: int) -> None:
        from cuda.bindings import runtime

        self._cuda = runtime
        self._graph = graph
        self._stream = stream_handle
        self.kernels = self._count_kernels()
        self._executable = _value(runtime.cudaGraphInstantiate(graph, 0))

    def _count_kernels(self) -> int:
        kernel = self._cuda.cudaGraphNodeType.cudaGraphNodeTypeKernel
        _, count = _values(self._cuda.cudaGraphGetNodes(self._graph))
        nodes, _ = _values(self._cuda.cudaGraphGetNodes(self._graph, count))
        kernels = sum(bool(_value(self._cuda.cudaGraphNodeGetType(node)) == kernel) for node in nodes)
        if kernels == 0:  # replaying nothing would look very fast
            raise CellError(f"the captured graph holds no kernel ({counted(count, 'node')})")
        return kernels

    def launch(self) -> None:
        """Enqueue the whole graph on the stream it was captured on; raise CellError."""
        _values(self._cuda.cudaGraphLaunch(self._executable, self._stream))

    def close(self) -> None:
        """Free the graph; the stream must be idle."""
        self._cuda.cudaGraphExecDestroy(self._executable)
        self._cuda.cudaGraphDestroy(self._graph)


def capture(stream_handle: int, work: Callable[[], None]) -> CapturedGraph:
    """Record what `work` enqueues on the stream instead of running it; raise CellError if that is impossible.

    Thread-local mode: a telemetry thread, or TensorRT-RTX's own compiler threads, may call CUDA meanwhile.
    """
    from cuda.bindings import runtime

    mode = runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
    _values(runtime.cudaStreamBeginCapture(stream_handle, mode))
    try:
        work()
    except Exception:
        # The stream must leave capture mode, whatever happened; the graph, if there is one, is not wanted.
        status, graph = runtime.cudaStreamEndCapture(stream_handle)
        if status == runtime.cudaError_t.cudaSuccess:
            runtime.cudaGraphDestroy(graph)
        runtime.cudaGetLastError()  # else the next call would report this capture's error as its own
        raise
    try:
        return CapturedGraph(_value(runtime.cudaStreamEndCapture(stream_handle)), stream_handle)
    except CellError:
        runtime.cudaGetLastError()
        raise


def _values(result: tuple[Any, ...]) -> tuple[Any, ...]:
    """Split the status off what a `cuda.bindings` call returned; raise CellError with CUDA's own words."""
    from cuda.bindings import runtime

    status, *values = result
    if status != runtime.cudaError_t.cudaSuccess:
        _, text = runtime.cudaGetErrorString(status)
        raise CellError(f"CUDA: {text.decode() if isinstance(text, bytes) else text} ({status.name})")
    return tuple(values)


def _value(result: tuple[Any, ...]) -> Any:
    (value,) = _values(result)
    return value

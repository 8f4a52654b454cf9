"""The parts of CUDA used beside TensorRT: device buffers with pinned host copies, and captured graphs.

Buffers are allocated once and moved on one stream. The device side is torch's, because a router decides on torch
tensors; TensorRT only needs the address.

CUDA graphs are captured through `cuda.bindings`, the C API one to one (CUDA Runtime API, "Graph Management"), not
through torch: where a capture fails, as it may for any network, torch's allocator stays in its capturing state.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from harness.networks.inputs import TensorSpec
from harness.system.counts import counted
from harness.system.errors import CellError


class Buffers:
    """One side, inputs or outputs: a device tensor and a pinned host tensor per name, both [max batch, ...].

    `channels_last` names the tensors [N, C, H, W] that lie in memory as NHWC.
    """

    def __init__(
        self, specs: tuple[TensorSpec, ...], max_size: int, device_index: int, channels_last: Collection[str] = ()
    ) -> None:
        import torch

        self.device: dict[str, Any] = {}
        self._host: dict[str, Any] = {}
        for spec in specs:
            shape, dtype = (max_size, *spec.shape[1:]), getattr(torch, spec.dtype)
            layout = torch.channels_last if spec.name in channels_last else torch.contiguous_format
            device = f"cuda:{device_index}"
            self.device[spec.name] = torch.empty(shape, dtype=dtype, device=device, memory_format=layout).zero_()
            self._host[spec.name] = torch.empty(shape, dtype=dtype, memory_format=layout, pin_memory=True).zero_()
        torch.cuda.synchronize(device_index)  # zeroed on torch's stream, used on another

    def write(self, arrays: Mapping[str, np.ndarray], stream: Any) -> None:
        """Copy host arrays into the first samples of the device buffers; returns once the copy is enqueued."""
        import torch

        stream.synchronize()  # an earlier copy may still be reading the pinned memory
        with torch.cuda.stream(stream):
            for name, array in arrays.items():
                if name not in self.device:
                    raise CellError(f"no input is called {name!r}: there are {sorted(self.device)}")
                size = len(array)
                self._host[name][:size].copy_(torch.from_numpy(np.ascontiguousarray(array)))
                self.device[name][:size].copy_(self._host[name][:size], non_blocking=True)

    def read(self, size: int, stream: Any) -> dict[str, np.ndarray]:
        """Return host copies of the first `size` samples, after everything enqueued on the stream."""
        import torch

        with torch.cuda.stream(stream):
            for name, tensor in self.device.items():
                self._host[name][:size].copy_(tensor[:size], non_blocking=True)
        stream.synchronize()
        return {name: tensor[:size].numpy().copy() for name, tensor in self._host.items()}

    def fill(self, value: float, stream: Any) -> None:
        """Fill every device buffer, in the stream's order."""
        import torch

        with torch.cuda.stream(stream):
            for tensor in self.device.values():
                tensor.fill_(value)


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

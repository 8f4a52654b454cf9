"""One CUDA stream for a process, and CUDA graphs captured on it: for PyTorch and ONNX Runtime alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness.system.errors import CellError, kind_and_first_line

_stream: Any = None


def process_stream() -> Any:
    """Return this process's torch stream, made and made current at the first call; never the default stream.

    A capture can't work on the default stream, and two stages of one cell must be ordered with each other.
    """
    global _stream
    import torch

    if _stream is None:
        _stream = torch.cuda.Stream()
    torch.cuda.set_stream(_stream)
    return _stream


CAPTURE_WARMUPS = 3  # before a capture, as torch.cuda.graph's documentation asks for


def try_record(stream: Any, work: Callable[[], Any]) -> tuple[Any, Any] | str:
    """Capture what `work` enqueues on `stream`; return the `torch.cuda.CUDAGraph` and what `work` returned.

    Where that can't be captured, return the reason; a CellError passes through.
    """
    try:
        return _record(stream, work)
    except CellError:
        raise
    except Exception as error:  # torch's are RuntimeErrors; ONNX Runtime's have no common base but this
        return kind_and_first_line(error)


def _record(stream: Any, work: Callable[[], Any]) -> tuple[Any, Any]:
    import torch

    for _ in range(CAPTURE_WARMUPS):  # lazy set-up must be over before a capture
        work()
    stream.synchronize()
    graph = torch.cuda.CUDAGraph(keep_graph=True)  # kept, so that its nodes can be counted
    with torch.cuda.graph(graph, stream=stream):
        result = work()
    graph.instantiate()
    return graph, result


def kernel_nodes(graph: Any) -> int | None:
    """Return how many kernels a recorded graph launches; None without cuda-bindings.

    CUDA Runtime API, "Graph Management": the nodes of a graph and the type of each.
    """
    try:
        from cuda.bindings import runtime
    except ImportError:
        return None
    handle = graph.raw_cuda_graph()
    ok = runtime.cudaError_t.cudaSuccess
    status, _, count = runtime.cudaGraphGetNodes(handle)
    if status != ok:
        return None
    status, nodes, _ = runtime.cudaGraphGetNodes(handle, count)
    if status != ok:
        return None
    kinds = [runtime.cudaGraphNodeGetType(node) for node in nodes]
    kernels = [kind == runtime.cudaGraphNodeType.cudaGraphNodeTypeKernel for _, kind in kinds]
    return sum(map(bool, kernels))

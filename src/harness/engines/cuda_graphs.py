"""CUDA graphs captured through torch, for whatever enqueues its work on a torch stream: PyTorch, ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

CAPTURE_WARMUPS = 3  # before a capture, as torch.cuda.graph's documentation asks for


def record(stream: Any, work: Callable[[], Any]) -> tuple[Any, Any]:
    """Capture what `work` enqueues on `stream`; return the `torch.cuda.CUDAGraph` and what `work` returned.

    Raises RuntimeError, or what `work` raises, where that can't be captured.
    """
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
    return sum(kind == runtime.cudaGraphNodeType.cudaGraphNodeTypeKernel for _, kind in kinds)

"""The one CUDA stream of a worker process that torch and ONNX Runtime run on, so that all of it is ordered."""

from __future__ import annotations

from typing import Any

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

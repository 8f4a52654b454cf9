"""TensorRT's layer profiler: a callback with the milliseconds of each layer of one enqueue.

https://docs.nvidia.com/deeplearning/tensorrt/latest/_static/python-api/infer/Core/Profiler.html
"""

from __future__ import annotations

from typing import Any


def collector(trt: Any, times_ms: dict[str, float]) -> Any:
    """Return a profiler to set on an execution context: it adds up each layer's milliseconds in `times_ms`."""
    base: Any = trt.IProfiler

    class Collector(base):  # type: ignore[misc]  # a class that is known once TensorRT is loaded
        def __init__(self) -> None:
            base.__init__(self)

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            times_ms[layer_name] = times_ms.get(layer_name, 0.0) + ms

    return Collector()

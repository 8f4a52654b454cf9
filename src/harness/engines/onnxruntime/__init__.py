"""ONNX Runtime: the optimised model as artifact (`builder.py`), run with I/O binding (`runtime.py`)."""

from harness.engines.onnxruntime.engine import ONNXRUNTIME

__all__ = ["ONNXRUNTIME"]

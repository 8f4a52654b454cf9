"""ONNX Runtime: its optimised model is built once (`builder.py`) and run with I/O binding (`runtime.py`)."""

from harness.engines.onnxruntime.engine import ONNXRUNTIME

__all__ = ["ONNXRUNTIME"]

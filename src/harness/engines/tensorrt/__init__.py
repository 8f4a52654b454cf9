"""TensorRT and TensorRT-RTX: one implementation, two flavours; importing this loads neither."""

from harness.engines.tensorrt.engine import TensorRtEngine
from harness.engines.tensorrt.flavour import TENSORRT_FLAVOUR, TENSORRT_RTX_FLAVOUR

TENSORRT = TensorRtEngine(TENSORRT_FLAVOUR)
TENSORRT_RTX = TensorRtEngine(TENSORRT_RTX_FLAVOUR)

__all__ = ["TENSORRT", "TENSORRT_RTX", "TensorRtEngine"]

"""Each process compiles onnxscript's operators once: every export compiles all 500 anew, which is a sixth of its time.

They are the same for every network: none of ours brings translations of its own (`custom_translation_table`), the only
thing that PyTorch would add to them.
"""

from __future__ import annotations

import functools


def compile_once() -> None:
    """Let the exports of this process, and of its forks, share the operators."""
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    ONNXRegistry.from_torchlib = staticmethod(functools.cache(ONNXRegistry.from_torchlib))

"""fusion: kernel fusion and graph optimisation at the engine's most, with its launches captured in a CUDA graph."""

from __future__ import annotations

from dataclasses import replace

from harness.config import FusionOptions, HarnessConfig
from harness.system.errors import UserError
from harness.techniques.levels import Levels

name = "fusion"


def check(options: FusionOptions, config: HarnessConfig, engine: str) -> None:
    """Raise UserError on eager, which has nothing to fuse with, and for dense blocks where there are none of ours."""
    if engine == "eager":
        raise UserError("hw=fusion: engine eager fuses nothing; choose engine=tensorrt, inductor or onnxruntime.")
    if options.dense_blocks and engine not in ("", "inductor"):
        raise UserError(f"hw.fusion.dense_blocks=true: engine {engine} can't take our kernels; choose engine=inductor.")
    if options.dense_blocks and not config.hw.fp16.enabled:
        raise UserError("hw.fusion.dense_blocks=true: the kernels compute in fp16; use hw=[fp16,fusion].")


def apply(levels: Levels, options: FusionOptions, config: HarnessConfig) -> Levels:
    """Return the levels with fusion at its most; the engine captures a CUDA graph where there is a GPU."""
    return replace(levels, fusion="max", cuda_graph=options.cuda_graph, dense_blocks=options.dense_blocks)

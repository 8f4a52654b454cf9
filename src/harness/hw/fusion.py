"""fusion: kernel fusion and graph optimisation at the engine's most, with its launches captured in a CUDA graph."""

from __future__ import annotations

from dataclasses import replace

from harness.config import FusionOptions, HarnessConfig
from harness.errors import UserError
from harness.hw.levels import Levels

name = "fusion"


def check(options: FusionOptions, config: HarnessConfig, engine: str) -> None:
    """Raise UserError on eager, which runs one kernel an operation and has nothing to fuse with."""
    if engine == "eager":
        raise UserError("hw=fusion: engine eager fuses nothing; choose engine=onnxruntime, inductor or tensorrt_rtx.")


def apply(levels: Levels, options: FusionOptions, config: HarnessConfig) -> Levels:
    """Return the levels with fusion at its most; the engine captures a CUDA graph where there is a GPU."""
    return replace(levels, fusion="max", cuda_graph=options.cuda_graph)

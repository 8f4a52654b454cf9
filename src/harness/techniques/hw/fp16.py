"""fp16: half-precision weights and compute (Micikevicius et al. 2018, arXiv:1710.03740), in the graph itself."""

from __future__ import annotations

from dataclasses import replace

from harness.config import Fp16Options, HarnessConfig
from harness.system.errors import UserError
from harness.techniques.levels import Levels

name = "fp16"


def check(options: Fp16Options, config: HarnessConfig, engine: str) -> None:
    """Raise UserError for an unknown `io`."""
    if options.io not in ("fp32", "fp16"):
        raise UserError(f"hw.fp16.io={options.io}: choose fp32 or fp16.")


def apply(levels: Levels, options: Fp16Options, config: HarnessConfig) -> Levels:
    """Return the levels with fp16 weights and compute; inputs and outputs stay fp32 unless `io=fp16`."""
    return replace(levels, precision="fp16", fp16_io=options.io == "fp16")

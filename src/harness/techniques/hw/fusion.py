"""fusion: kernel fusion and graph optimisation at the engine's most, with its launches captured in a CUDA graph."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.config import HarnessConfig
from harness.system.errors import UserError
from harness.techniques.levels import HasCapabilities, Levels

if TYPE_CHECKING:
    from torch import nn

name = "fusion"


@dataclass
class FusionOptions:
    """Kernel fusion and graph optimisation at the engine's most, against its least."""

    enabled: bool = False
    cuda_graph: bool = True  # GPU only: capture the run and replay it
    # inductor on a GPU, with fp16: our kernels for DenseNet, which never copy a concatenation; transitions pool first
    dense_blocks: bool = False


Options = FusionOptions
DENSE_BLOCKS = "dense_blocks"  # the lowering that an engine may have registered


def check(options: FusionOptions, config: HarnessConfig, engine: HasCapabilities | None) -> None:
    """Raise UserError on an engine that fuses nothing, and for a lowering that it does not have."""
    if options.dense_blocks and not config.hw.fp16.enabled:
        raise UserError("hw.fusion.dense_blocks=true: the kernels compute in fp16; use hw=[fp16,fusion].")
    if engine is None:
        return
    able = engine.capabilities
    if not able.fuses:
        raise UserError(f"hw=fusion: engine {engine.name} fuses nothing; choose another engine.")
    if options.dense_blocks and DENSE_BLOCKS not in able.lowerings:
        raise UserError(
            f"hw.fusion.dense_blocks=true: engine {engine.name} can't take our kernels; choose engine=inductor."
        )
    for option in able.fusion_options:
        if (value := config.engine.option(option)) is not None and config.reference == "engine":
            raise UserError(
                f"engine.{option}={value}: hw=fusion with reference=engine compares the builder's minimum "
                "with its maximum, which this option would make equal; leave one of the two out."
            )


def check_network(model: nn.Module, options: FusionOptions) -> None:
    """Raise UserError where a lowering is requested that has nothing to work on in this network."""
    from harness.techniques.arch.anatomy import require_densenet

    if options.dense_blocks:
        require_densenet(model, "hw.fusion.dense_blocks=true runs dense blocks")


def apply(levels: Levels, options: FusionOptions, config: HarnessConfig) -> Levels:
    """Return the levels with fusion at its most; the engine captures a CUDA graph where there is a GPU."""
    lowerings = (DENSE_BLOCKS,) if options.dense_blocks else ()
    return replace(levels, fusion="max", cuda_graph=options.cuda_graph, lowerings=lowerings)

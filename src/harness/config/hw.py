"""The options of the group `hw`: of each hardware technique, those of other packages too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, make_dataclass
from functools import cache
from typing import Any

from harness.config import packages
from harness.config.switch import Switch


@dataclass
class Fp16Options:
    """Half-precision weights and compute."""

    enabled: bool = False
    io: str = "fp32"  # fp32 | fp16: dtype of the engine's inputs and outputs


@dataclass
class FusionOptions:
    """Kernel fusion and graph optimisation at the engine's most, against its least."""

    enabled: bool = False
    cuda_graph: bool = True  # GPU only: capture the run and replay it
    # inductor on a GPU, with fp16: our kernels for DenseNet, which never copy a concatenation; transitions pool first
    dense_blocks: bool = False


@dataclass
class DynamicBatchingOptions:
    """A dynamic-shape engine. None takes the value from the batch preset: 1, batch_size, 2 * batch_size."""

    enabled: bool = False
    min_batch_size: int | None = None  # smallest batch of the engine
    opt_batch_size: int | None = None  # the one it is tuned for
    max_batch_size: int | None = None  # largest batch
    max_queue_delay_us: int = 2000  # load scenarios: how long the oldest request may wait for others to join it
    preferred_batch_sizes: list[int] | None = None  # load scenarios: a batch of such a size waits for no more


@dataclass
class HwConfig:
    """All hardware techniques, always present; a group choice switches one on."""

    identity: Switch = field(default_factory=Switch)
    compiled: Switch = field(default_factory=Switch)
    fp16: Fp16Options = field(default_factory=Fp16Options)
    fusion: FusionOptions = field(default_factory=FusionOptions)
    dynamic_batching: DynamicBatchingOptions = field(default_factory=DynamicBatchingOptions)


def other_hw_techniques() -> Mapping[str, Any]:
    """Return the techniques of other packages by name: modules with `name`, `Options`, `check` and `apply`."""
    return packages.added_techniques(packages.HW)


@cache
def hw_config_type() -> type[HwConfig]:
    """Return `HwConfig` with a field for each technique of another package."""
    found = other_hw_techniques()
    if not found:
        return HwConfig
    more = [(name, module.Options, field(default_factory=module.Options)) for name, module in found.items()]
    return make_dataclass(_EXTENDED, more, bases=(HwConfig,), namespace={"__module__": __name__})


_EXTENDED = "HwConfigWithOthers"


def __getattr__(name: str) -> Any:
    if name == _EXTENDED:  # where pickle looks for the class that `hw_config_type` makes
        return hw_config_type()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

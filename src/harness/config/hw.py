"""The options of the group `hw`: of each hardware technique."""

from __future__ import annotations

from dataclasses import dataclass, field

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

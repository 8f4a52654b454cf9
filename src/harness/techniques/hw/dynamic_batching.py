"""dynamic_batching: an engine for a range of batch sizes instead of one; in load scenarios, a batcher."""

from __future__ import annotations

from dataclasses import dataclass, replace

from harness.config import HarnessConfig, at_least
from harness.config.ranges import Ranges
from harness.system.errors import UserError
from harness.techniques.levels import BatchProfile, HasCapabilities, Levels

name = "dynamic_batching"


@dataclass
class DynamicBatchingOptions:
    """A dynamic-shape engine. None takes the value from the batch preset: 1, batch_size, 2 * batch_size."""

    enabled: bool = False
    min_batch_size: int | None = None  # smallest batch of the engine
    opt_batch_size: int | None = None  # the one it is tuned for
    max_batch_size: int | None = None  # largest batch
    max_queue_delay_us: int = 2000  # load scenarios: how long the oldest request may wait for others to join it
    preferred_batch_sizes: list[int] | None = None  # load scenarios: a batch of such a size waits for no more


Options = DynamicBatchingOptions
RANGES: Ranges = {
    "min_batch_size": at_least(1),
    "opt_batch_size": at_least(1),
    "max_batch_size": at_least(1),
    "max_queue_delay_us": at_least(0),
}


def profile(options: DynamicBatchingOptions, config: HarnessConfig) -> BatchProfile:
    """Return the batch profile: the technique's own option, else the config's profile, else 1, B, 2 B."""
    preset = config.profile
    size = config.batch_size

    def first(*values: int | None) -> int:
        return next(value for value in values if value is not None)

    return BatchProfile(
        first(options.min_batch_size, preset.min_batch_size, 1),
        first(options.opt_batch_size, preset.opt_batch_size, size),
        first(options.max_batch_size, preset.max_batch_size, 2 * size),
    )


def check(options: DynamicBatchingOptions, config: HarnessConfig, engine: HasCapabilities | None) -> None:
    """Raise UserError for an engine whose batch is always dynamic, and for a profile that can't hold the batch."""
    if engine is not None and not engine.capabilities.static_batch:
        raise UserError(
            f"hw=dynamic_batching: engine {engine.name} has no static shapes to switch off; choose another engine."
        )
    batch = profile(options, config)
    if not 1 <= batch.min_size <= batch.opt_size <= batch.max_size:
        raise UserError(
            f"dynamic batch profile {batch.min_size}/{batch.opt_size}/{batch.max_size}: "
            "must be 1 <= min <= opt <= max (hw.dynamic_batching.{min,opt,max}_batch_size)."
        )
    if not batch.min_size <= config.batch_size <= batch.max_size:
        raise UserError(
            f"batch_size={config.batch_size} is outside the dynamic profile {batch.min_size}..{batch.max_size}: "
            "set hw.dynamic_batching.max_batch_size, or choose the preset batch=bN that fits."
        )
    if batch.min_size == batch.max_size:
        raise UserError(f"dynamic batch profile {batch.min_size}..{batch.max_size} is static: raise max_batch_size.")


def apply(levels: Levels, options: DynamicBatchingOptions, config: HarnessConfig) -> Levels:
    """Return the levels with a dynamic batch."""
    return replace(levels, batch=profile(options, config))

"""How many of the waiting requests make a batch, and when: pure decisions, no threads and no clock."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BatchPolicy:
    """When to run a batch, and of how many requests. `static`: the engine takes one size only, so the rest is padding.

    The order of the rules is that of Triton's dynamic batcher (NVIDIA Triton Inference Server, model configuration,
    "Dynamic Batcher"): a full batch at once; else the largest preferred size there is; else whatever has come, once
    the oldest request has waited `max_queue_delay_us`. A static policy with no delay takes what waits as soon as the
    engine is free.
    """

    max_batch_size: int
    max_queue_delay_us: int = 0
    preferred_batch_sizes: tuple[int, ...] = ()
    static: bool = False
    buckets: tuple[int, ...] = ()  # sizes that are run, ascending; (): every size up to the largest

    def __post_init__(self) -> None:
        """Raise ValueError for a policy that could never run; the user's options are checked before."""
        if self.max_batch_size < 1 or self.max_queue_delay_us < 0:
            raise ValueError(f"a batch of {self.max_batch_size} within {self.max_queue_delay_us} us is not a batch")
        if self.buckets and self.buckets[-1] < self.max_batch_size:
            raise ValueError(f"no bucket of {self.buckets} holds {self.max_batch_size} requests")

    def take(self, waiting: int, oldest_us: float, flush: bool = False) -> int:
        """Return how many of `waiting` requests to run now; 0: wait. `flush`: no more will come."""
        if waiting >= self.max_batch_size:
            return self.max_batch_size
        preferred = [size for size in self.preferred_batch_sizes if size <= waiting]
        if preferred:
            return max(preferred)
        return waiting if flush or oldest_us >= self.max_queue_delay_us else 0

    def wait_us(self, oldest_us: float) -> float:
        """Return for how long `take` stays 0 if no further request arrives."""
        return max(0.0, self.max_queue_delay_us - oldest_us)

    def executed(self, requests: int) -> int:
        """Return the size that a batch of `requests` is run at, padding included."""
        if self.static:
            return self.max_batch_size
        return next((size for size in self.buckets if size >= requests), requests)

    def sizes(self) -> tuple[int, ...]:
        """Return every size that can be run, ascending."""
        if self.static:
            return (self.max_batch_size,)
        return self.buckets or tuple(range(1, self.max_batch_size + 1))


def powers_of_two(most: int) -> tuple[int, ...]:
    """Return 1, 2, 4, ... and `most` itself."""
    out = [1]
    while out[-1] * 2 < most:
        out.append(out[-1] * 2)
    return tuple(out) if out[-1] == most else (*out, most)

"""What makes a worker's rebuilt network bit-identical to the coordinator's: a fixed seed and one thread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from `seed` on the CPU inside, and give the caller's random state back afterwards."""
    # The CPU generator alone: `torch.manual_seed` would reseed every GPU too, and fork_rng would have to touch them.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


@contextmanager
def single_threaded() -> Iterator[None]:
    """Run PyTorch's CPU kernels on one thread inside: sums and decompositions depend on how work is split."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)

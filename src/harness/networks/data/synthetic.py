"""Synthetic images: seeded standard-normal values, the same for every cell of a quartet; unlabelled."""

from __future__ import annotations

import numpy as np


def images(seed: int, count: int, shape: tuple[int, ...]) -> np.ndarray:
    """Return [count, *shape] float32 from a fixed seed; image i does not depend on `count`."""
    generator = np.random.Generator(np.random.Philox(seed))
    return generator.standard_normal((count, *shape), dtype=np.float32)

"""The learning rate of each step: a linear rise, then half a cosine down to zero.

Loshchilov and Hutter: SGDR, ICLR 2017; the rise is Goyal et al.'s (Accurate, Large Minibatch SGD, 2017).
"""

from __future__ import annotations

import math


def learning_rate(step: int, steps: int, warmup_steps: int, highest: float) -> float:
    """Return the rate of step `step` of `steps`, the first of which is 0."""
    if step < warmup_steps:
        return highest * (step + 1) / warmup_steps
    done = (step - warmup_steps) / max(1, steps - warmup_steps)
    return highest * 0.5 * (1 + math.cos(math.pi * done))

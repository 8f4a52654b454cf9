"""What a network gives for a batch: every head for every sample, and what a caller gets of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class CellOutputs:
    """What a cell computed for verification inputs, all samples through all stages, [N, classes] float32."""

    heads: dict[str, np.ndarray]  # "logits", and "exit_logits" for an early exit
    final: np.ndarray  # what a caller gets: exit head for samples that left, last head for the others
    exited: np.ndarray | None = None  # [N] bool

"""PyTorch Inductor: torch.compile, whose kernels are compiled once and loaded from its portable cache."""

from harness.engines.inductor.engine import INDUCTOR

__all__ = ["INDUCTOR"]

"""PyTorch Inductor: torch.compile in a build worker, its portable cache as artifact."""

from harness.engines.inductor.engine import INDUCTOR

__all__ = ["INDUCTOR"]

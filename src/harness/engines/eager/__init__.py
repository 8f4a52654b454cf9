"""PyTorch eager: nothing is compiled; each operation is a kernel, launched by the host."""

from harness.engines.eager.engine import EAGER

__all__ = ["EAGER"]

"""PyTorch eager: the reference of the coursework's design; one kernel an operation, launched by the host."""

from harness.engines.eager.engine import EAGER

__all__ = ["EAGER"]

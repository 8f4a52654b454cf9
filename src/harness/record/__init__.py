"""Results -> one MLflow row: params, metrics, tags and artifacts of a quartet under the contract's names."""

from harness.record.params import params
from harness.record.quartet import record

__all__ = ["params", "record"]

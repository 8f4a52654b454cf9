"""Interaction measurement: do an architecture change and a hardware acceleration multiply?"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas

    from harness.sweep.call import Factory, Maker, Sweep

__all__ = ["__version__", "load", "run"]

# then CUDA's GPU 0 is NVML's, whose clocks and temperature are read; by itself CUDA counts the fastest first
os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")


def load(sweep: str | None = None, uri: str | None = None) -> pandas.DataFrame:
    """Return one row a quartet of a sweep (see `harness.tracking.load.load`), with every column that is declared."""
    from harness.tracking.load import load as load_sweep
    from harness.tracking.load import with_declared_columns

    return with_declared_columns(load_sweep(sweep, uri))


def run(
    model: str | Factory = "densenet121",
    arch: str | Sequence[Any] = "none",
    hw: str | Sequence[Any] = "none",
    inputs: Maker | None = None,
    **options: Any,
) -> Sweep:
    """Measure a sweep from Python and return its results (see `harness.sweep.call.run`)."""
    from harness.sweep.call import run as run_here

    return run_here(model, arch, hw, inputs, **options)

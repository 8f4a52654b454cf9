"""Interaction measurement: do an architecture change and a hardware acceleration multiply?"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    import pandas

__all__ = ["__version__", "load"]


def load(sweep: str | None = None, uri: str | None = None) -> pandas.DataFrame:
    """Return one row a quartet of a sweep (see `harness.track.load.load`)."""
    from harness.track.load import load as load_sweep

    return load_sweep(sweep, uri)

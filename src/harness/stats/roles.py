"""The four cells of a quartet by their roles, and how their metrics are named."""

from __future__ import annotations

ROLES = ("baseline", "arch", "hw", "combined")  # the order of the columns wherever four cells stand together


def prefix_of(role: str) -> str:
    """Return what stands before the metrics of a cell: nothing for the last one of a quartet."""
    return "" if role == "combined" else f"{role}/"

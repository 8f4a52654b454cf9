"""The four cells of a quartet by their roles, and how their metrics are named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

ROLES = ("baseline", "arch", "hw", "combined")  # the order of the columns wherever four cells stand together


def prefix_of(role: str) -> str:
    """Return the prefix of a cell's metrics: nothing for the last one of a quartet."""
    return "" if role == "combined" else f"{role}/"


def by_role(values: Any) -> Any:
    """Return what has a name for each of the four cells in their order, as [..., 4]; what has no names as it is.

    Names are the keys of a mapping, the columns of a DataFrame, the labels of a Series, the fields of a structured
    array. Raises ValueError unless they are the four roles, each once.
    """
    names = _names(values)
    if names is None:
        return values
    if sorted(map(str, names)) != sorted(ROLES):
        raise ValueError(
            f"names must be {', '.join(ROLES)}, each once and no other, got {', '.join(map(str, names))}; "
            "what has no names is an array in that order"
        )
    return np.stack([np.asarray(values[role], dtype=float) for role in ROLES], axis=-1)


def same_rows(table: Any, labels: Any) -> bool:
    """Return whether a table and the labels of its rows have the same index, where both have one."""
    indices = [index for labelled in (table, labels) if (index := _labels(labelled, "index")) is not None]
    return len(indices) < 2 or indices[0] == indices[1]


def _names(values: Any) -> list[Any] | None:
    if isinstance(values, Mapping):
        return list(values)
    fields = getattr(getattr(values, "dtype", None), "names", None)
    if fields:
        return list(fields)
    columns = _labels(values, "columns")
    return _labels(values, "index") if columns is None else columns


def _labels(values: Any, kind: str) -> list[Any] | None:
    labels = getattr(values, kind, None)
    return None if labels is None or callable(labels) else list(labels)  # a list's `index` is a method

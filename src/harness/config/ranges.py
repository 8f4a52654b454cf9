"""What an option's type can't say: each group has a table of ranges beside its fields, and one loop checks them all."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from harness.system.errors import UserError


@dataclass(frozen=True)
class Range:
    """The values that an option may have; None is always one where the type allows it."""

    holds: Callable[[Any], bool]
    says: str  # what the user reads after "option=value: "


Ranges = Mapping[str, Range]  # by the option's name in its group


def one_of(*allowed: str) -> Range:
    """Return the range of a choice."""
    return Range(lambda value: value in allowed, f"choose one of {', '.join(allowed)}")


def at_least(least: int) -> Range:
    """Return the range of a whole number."""
    return Range(lambda value: value >= least, f"must be at least {least}")


def positive(says: str = "must be a positive number") -> Range:
    """Return the range of a finite number above 0."""
    return Range(lambda value: math.isfinite(value) and value > 0, says)


def not_negative(says: str = "must be 0 or more") -> Range:
    """Return the range of a finite number that may be 0."""
    return Range(lambda value: math.isfinite(value) and value >= 0, says)


def between(low: float, high: float, example: str = "") -> Range:
    """Return the range of a number between two that it must not reach."""
    return Range(lambda value: low < value < high, f"must be between {low:g} and {high:g}{example}")


SHARE = Range(lambda value: 0 <= value <= 1, "must be from 0 to 1")


def check_ranges(group: str, options: object, ranges: Ranges) -> None:
    """Raise UserError for the first option of a group (its name as on the command line) outside its range.

    A group's `name` is what is chosen by the group itself: `data=digits`.
    """
    for name, allowed in ranges.items():
        value = getattr(options, name)
        if value is not None and not allowed.holds(value):
            option = ".".join(part for part in (group, name) if part) if name != "name" else group
            raise UserError(f"{option}={value}: {allowed.says}.")

"""What an interval of the interaction factor lets one say, given the margin within which a product is a product."""

from __future__ import annotations

import math
from enum import StrEnum

DECISION_LEVEL = 0.99  # of the interval that decides, where one looks until it is decided: see `make calibrate`


class Verdict(StrEnum):
    """The four possible statements; a member equals its plain string, so it can go into a tag as it is."""

    AMPLIFY = "amplify"
    CONFLICT = "conflict"
    INDEPENDENT = "independent"
    INCONCLUSIVE = "inconclusive"


def verdict(low: float, high: float, margin: float = 0.05) -> Verdict:
    """Return what the interval [low, high] of the factor says.

    `amplify` if all of it is above 1 + margin, `conflict` if all of it is below 1 - margin, `independent` if all
    of it is inside [1 - margin, 1 + margin], otherwise `inconclusive`: measure longer.

    Raises:
        ValueError: if low > high, a bound is NaN, or the margin is outside (0, 1).
    """
    check_margin(margin)
    if not low <= high:
        raise ValueError(f"an interval needs low <= high, got [{low}, {high}]")
    if low > 1 + margin:
        return Verdict.AMPLIFY
    if high < 1 - margin:
        return Verdict.CONFLICT
    if 1 - margin <= low and high <= 1 + margin:
        return Verdict.INDEPENDENT
    return Verdict.INCONCLUSIVE


def is_decided(verdict: str) -> bool:
    """Return whether a verdict says anything; `inconclusive` asks for more blocks or more restarts."""
    return Verdict(verdict) is not Verdict.INCONCLUSIVE


def distance_to_margin(log_factor: float, margin: float) -> float:
    """Return how far ln(factor) is from the nearer of ln(1 - margin) and ln(1 + margin).

    A symmetric interval of ln(factor) decides exactly when its half-width is below this distance.
    """
    return min(abs(log_factor - math.log1p(-margin)), abs(log_factor - math.log1p(margin)))


def check_margin(margin: float) -> None:
    """Raise ValueError unless 0 < margin < 1."""
    if not 0 < margin < 1:
        raise ValueError(f"margin must be between 0 and 1, got {margin}")

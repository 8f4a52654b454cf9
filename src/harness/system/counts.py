"""A number with its noun, for messages and pages: one restart is not 1 restarts."""

from __future__ import annotations


def counted(number: float, noun: str, plural: str = "") -> str:
    """Return a count in words: "1 quartet", "2 quartets"; `plural` where it is not the noun with an s."""
    return f"{number:.0f} {noun if number == 1 else plural or noun + 's'}"

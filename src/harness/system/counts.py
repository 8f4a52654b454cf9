"""Numbers in words, for messages, tables and pages: one restart is not 1 restarts, and no interval is 7 digits wide."""

from __future__ import annotations

WIDEST = 10.0  # an interval's upper end over its lower one; beyond it the ends say nothing


def counted(number: float, noun: str, plural: str = "") -> str:
    """Return a count in words: "1 quartet", "2 quartets"; `plural` where it is not the noun with an s."""
    return f"{number:.0f} {noun if number == 1 else plural or noun + 's'}"


def duration(seconds: float) -> str:
    """Return a time to come, as roughly as it is known: "40 s", "3 min", "2 h 10 min"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s" if seconds < 10 else f"{round(seconds, -1):.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60 // 10 * 10} min"


def limits(low: float, high: float) -> str:
    """Return the interval of a ratio, "[0.893, 0.911]"; of one that is wider than `WIDEST`, or unknown, no digits."""
    is_narrow = low > 0 and high <= WIDEST * low
    return f"[{low:.3f}, {high:.3f}]" if is_narrow else "[wider than tenfold]"
